"""What a network says of a batch, and how calls and proportions are read off it.

Shape letters: B = samples, T = tissues.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from deconv.posterior import refit, refit_called

_SMALLEST = 1e-4  # of an estimated fraction, before its logarithm
_OPEN = 20.0  # logit of a gate that holds nothing back


class Output(NamedTuple):
    """What the network says of a batch.

    ``presence_logits`` is None if single-stage. ``scores`` are unnormalised log fractions, or,
    with an atlas start, corrections of the logarithms of those that solve the normal
    equations (``gram``, ``moment``). The last four are those of
    `deconv.posterior.Posterior`.
    """

    presence_logits: Float[Tensor, "B T"] | None
    scores: Float[Tensor, "B T"]
    gram: Float[Tensor, "B T T"] | None = None
    moment: Float[Tensor, "B T"] | None = None
    estimate: Float[Tensor, "B T"] | None = None
    std_error: Float[Tensor, "B T"] | None = None
    mean: Float[Tensor, "B T"] | None = None
    deviation: Float[Tensor, "B T"] | None = None


def join_outputs(outputs: Sequence[Output]) -> Output:
    """Return the output of all batches as one."""
    joined: Any = [
        None if part[0] is None else torch.cat(part) for part in zip(*outputs, strict=True)
    ]
    return Output(*joined)


def soft_proportions(output: Output) -> Float[Tensor, "B T"]:
    """Return the proportions to train on: each tissue weighted by its presence gate.

    The gate enters as a ridge before least squares, or as its logarithm before the softmax, so
    that a closed gate means weight 0 (not e^0 = 1) and the gradient reaches the presence head.
    """
    logits, scores = output.presence_logits, output.scores
    if output.gram is None or output.moment is None:
        gate = 0.0 if logits is None else nn.functional.logsigmoid(logits)
        return (scores + gate).softmax(dim=1)
    opened = torch.full_like(scores, _OPEN) if logits is None else logits
    fractions = refit(output.gram, output.moment, opened)
    return (scores + fractions.clamp(min=_SMALLEST).log()).softmax(dim=1)


def called(output: Output, threshold: float | Float[Tensor, " T"]) -> Bool[Tensor, "B T"]:
    """Return which tissues are called: presence above the threshold, and always the top one.

    A sample has DNA, so it has a tissue: where no presence exceeds the threshold, the
    most probable tissue is called.
    """
    if output.presence_logits is None:
        raise ValueError("a single-stage network calls nothing")
    presence = output.presence_logits.sigmoid()
    top = nn.functional.one_hot(output.presence_logits.argmax(dim=1), presence.shape[1])
    return (presence > threshold) | top.bool()


def hard_proportions(
    output: Output, threshold: float | Float[Tensor, " T"]
) -> Float[Tensor, "B T"]:
    """Return the proportions to report: exactly 0 for a tissue not called, sum 1."""
    if output.presence_logits is None:
        return soft_proportions(output)
    call = called(output, threshold)
    scores = output.scores
    if output.gram is not None and output.moment is not None:
        fractions = refit_called(output.gram, output.moment, call)
        scores = scores + fractions.clamp(min=_SMALLEST).log()
    return scores.masked_fill(~call, -torch.inf).softmax(dim=1)
