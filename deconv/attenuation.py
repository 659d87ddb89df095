r"""Contrast between tissues that a sample lacks, and presence judged without it.

Another laboratory's regions differ at random from the atlas'. Averaged over many regions that
leaves the beta values of a sample nearer to the mean of all tissues than any mixture's are:
:math:`(1 - c) A^T p + c \bar{a}`. Of the centred atlas that is a mixture whose proportions sum
to 1 - c. Held to sum 1, they would make up for the rest with a little of every tissue, which
is what false calls are made of. So where the called tissues alone, held to no sum, are surely
not all of the sample, presence is judged with the sum left as free as that.

Shape letters: B = samples, b = some of them, T = tissues.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from deconv.posterior import Posterior, refit_called, spike_and_slab

_FREE = 100.0  # precision of the sum, sd .1, while the contrast is estimated
_SURE_FROM = 3.0
"""Standard errors from which on a loss is believed; less is left to chance."""


class Loss(NamedTuple):
    """Estimated share of the contrast that is missing."""

    size: Float[Tensor, " B"]
    variance: Float[Tensor, " B"]


def find_loss(gram: Float[Tensor, "B T T"], moment: Float[Tensor, "B T"]) -> Loss:
    """Estimate what is missing from sum 1 of the tissues that are more likely there.

    Parameters
    ----------
    gram, moment
        From `AtlasEstimator.normal_equations`, which holds the sum.
    """
    gram, moment = _with_sum_held(gram, moment, moment.new_tensor(_FREE))
    call = spike_and_slab(gram, moment).found()
    total, variance = (
        refit_called(gram, side, call).sum(dim=1) for side in (moment, torch.ones_like(moment))
    )
    return Loss(1 - total, variance)


def posterior_without_loss(
    gram: Float[Tensor, "B T T"],
    moment: Float[Tensor, "B T"],
    held: Posterior,
    typical: float,
) -> Posterior:
    """Return the posterior, anew for samples of which contrast is missing beyond doubt.

    Their fractions are those of the tissues' DNA, of which the sum is 1.

    Parameters
    ----------
    held
        The posterior at sum 1, which other samples keep.
    typical
        Loss in samples of the atlas' own laboratory, from which that of others is counted:
        errors of the atlas make it small, but not 0.
    """
    loss = find_loss(gram, moment)
    beyond = (loss.size - typical).square() - _SURE_FROM**2 * loss.variance
    rows = (beyond > 0).nonzero()[:, 0]
    if not len(rows):
        return held
    found = spike_and_slab(*_with_sum_held(gram[rows], moment[rows], 1 / beyond[rows]))
    whole = found.mean.sum(dim=1, keepdim=True).clamp(min=0.5)
    found = Posterior(found.log_odds, *(part / whole for part in found[1:]))
    pairs = zip(held, found, strict=True)
    return Posterior(*(old.index_copy(0, rows, new) for old, new in pairs))


def _with_sum_held(
    gram: Float[Tensor, "b T T"], moment: Float[Tensor, "b T"], precision: Float[Tensor, " ..."]
) -> tuple[Float[Tensor, "b T T"], Float[Tensor, "b T"]]:
    """Return normal equations with the sum held to 1 less tightly, if it was."""
    held = gram.diagonal(dim1=1, dim2=2).mean(dim=1) / 2  # that is how they were made
    less = (held - precision).clamp(min=0)
    return gram - less[:, None, None], moment - less[:, None]
