"""The two-stage network: which tissues are present, and how much of each.

Shape letters: B = samples in the batch, R = regions, T = tissues, H = hidden units.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from deconv.atlas import Atlas
from deconv.attenuation import posterior_without_loss
from deconv.configuration import Section
from deconv.errors import ConfigError
from deconv.estimator import AtlasEstimator
from deconv.posterior import Posterior, compiled, refit, refit_called, spike_and_slab
from deconv.precision import products_in

_SMALLEST = 1e-4  # of an estimated fraction, before its logarithm
_OPEN = 20.0  # logit of a gate that holds nothing back


class ModelConfig(Section):
    """Size and kind of the network.

    ``n_regions`` and ``num_classes`` are checked against the data if they are given.
    """

    n_regions: PositiveInt | None = None
    num_classes: PositiveInt | None = None
    hidden_size: PositiveInt = 512
    intermediate_size: PositiveInt = 2048
    dropout: float = Field(0.1, ge=0, lt=1)
    use_two_stage: bool = True
    atlas_start: bool = True
    presence_threshold: float = Field(0.5, gt=0, lt=1)
    pretrained_checkpoint: str | None = None


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


class TwoStageNetwork(nn.Module):
    """The network, started at the atlas' estimator unless ``config.atlas_start`` is off.

    The first T rows of the projection then are those of generalised least squares, plus what
    training corrects. Presence
    starts at the log odds of `deconv.posterior`; proportions at least squares of the tissues
    present. The blocks, which see the posterior too, learn to correct both.

    Raises
    ------
    ConfigError
        If the stated size is not that of the atlas, or leaves the atlas rows no room.
    """

    def __init__(self, config: ModelConfig, atlas: Atlas, *, read_effect: float) -> None:
        super().__init__()
        n_tissues, n_regions = atlas.mean.shape
        _check_size("model.n_regions", config.n_regions, n_regions)
        _check_size("model.num_classes", config.num_classes, n_tissues)
        if config.atlas_start and config.hidden_size <= n_tissues:
            raise ConfigError(
                "the hidden layer has no room for the atlas rows", where="model.hidden_size",
                got=config.hidden_size, expected=f"more than the {n_tissues} tissues",
            )  # fmt: skip
        self.config = config
        self._solve_in_training: Callable[[Tensor, Tensor], Posterior] = spike_and_slab
        self.estimator = AtlasEstimator(atlas, read_effect=read_effect)
        hidden, wide, n_free = config.hidden_size, config.intermediate_size, config.hidden_size
        if config.atlas_start:
            n_free -= n_tissues
            self.atlas_correction = nn.Parameter(torch.zeros(n_tissues, n_regions))
            self.presence_scale = nn.Parameter(torch.ones(n_tissues))
        self.projection = nn.Linear(n_regions, n_free)
        n_known = 2 * n_tissues if config.atlas_start else 0
        self.blocks = nn.Sequential(
            *_block(hidden + n_known, hidden, config.dropout),
            *_block(hidden, hidden, config.dropout),
            *_block(hidden, wide, config.dropout),
        )
        self.proportion_head = nn.Linear(wide, n_tissues)
        heads = [self.proportion_head]
        if config.use_two_stage:
            self.presence_head = nn.Linear(wide, n_tissues)
            heads.append(self.presence_head)
        if config.atlas_start:
            for head in heads:  # nothing to correct yet
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)

    def compile_posterior(self) -> None:
        """Have the posterior compiled in training, where it is asked for at one size."""
        self._solve_in_training = compiled(self.projection.weight.device.type)

    def forward(
        self,
        methylated: Float[Tensor, "B R"],
        coverage: Float[Tensor, "B R"],
        estimator: AtlasEstimator | None = None,
        typical_loss: float | None = None,
    ) -> Output:
        """Score each tissue's presence (logits) and share.

        ``estimator`` takes the place of the network's own in training. With a typical loss,
        contrast that samples lack beyond it is allowed for, see `deconv.attenuation`.
        """
        estimator = estimator or self.estimator
        exact = products_in(torch.float32, methylated.device)  # whatever the blocks run in
        with torch.no_grad(), exact:
            features, weight = estimator.features(methylated, coverage)
        hidden = self.projection(features)
        if not self.config.atlas_start:
            hidden = self.blocks(hidden)
            logits = self.presence_head(hidden).float() if self.config.use_two_stage else None
            return Output(logits, self.proportion_head(hidden).float())
        with exact:
            rows = estimator.initial_rows() + self.atlas_correction
            gram, moment = estimator.normal_equations(features @ rows.T, weight)
            with torch.no_grad():
                solve = self._solve_in_training if self.training else spike_and_slab
                known = solve(gram.detach(), moment.detach())
                if typical_loss is not None:
                    known = posterior_without_loss(gram, moment, known, typical_loss)
        # In units in which a typical value is about 1.
        seen = (known.mean * len(gram[0]), known.log_odds / 10, known.std_error.log10() + 3)
        hidden = self.blocks(torch.cat([*seen, hidden], dim=1))
        scores = self.proportion_head(hidden).float()
        logits = None
        if self.config.use_two_stage:
            logits = self.presence_scale * known.log_odds + self.presence_head(hidden)
        return Output(
            logits, scores, gram, moment,
            known.estimate, known.std_error, known.mean, known.deviation,
        )  # fmt: skip


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


def _block(n_in: int, n_out: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.GELU(), nn.Dropout(dropout)]


def _check_size(key: str, stated: int | None, actual: int) -> None:
    if stated not in (None, actual):
        raise ConfigError(
            "the data are of another size", where=key, got=stated, expected=f"{actual} or null"
        )
