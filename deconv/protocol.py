r"""A sample's scale of methylation, put back on that of the atlas.

Laboratories differ: where conversion is incomplete, unmethylated cytosines are read as
methylated, and where it goes too far, methylated ones as unmethylated. Of a beta value
:math:`\beta` that makes :math:`\beta + a (1 - \beta) - b \beta`, in every region and with the
same small a and b. Thousands of regions tell both apart from the tissues, which differ region
by region; left in place, 3 % of lost methylation looks like small amounts of every tissue.

Shape letters: B = samples, R = regions, T = tissues.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from deconv.estimator import AtlasEstimator
from deconv.posterior import refit_called, spike_and_slab

_SURE_FROM = 3.0
"""Standard errors from which on an effect is believed; less is left to chance."""


class Effects(NamedTuple):
    """Shares of unmethylated observations gained, and of methylated ones kept beyond all (-b)."""

    size: Float[Tensor, "B 2"]
    variance: Float[Tensor, "B 2"]
    beta: Float[Tensor, "B R"]
    """Of the tissues that are more likely there, for which the effects are told."""


def on_atlas_scale(
    estimator: AtlasEstimator,
    methylated: Float[Tensor, "B R"],
    coverage: Float[Tensor, "B R"],
    typical: Sequence[float],
) -> Float[Tensor, "B R"]:
    """Return methylated counts less what the sample's protocol added to them.

    They need be neither whole nor within the coverage. A sample without an effect that is
    sure to three standard errors keeps its counts; of one that has it, the effect is taken
    out by the share :math:`1 - 9 / z^2` (positive-part James-Stein).

    Parameters
    ----------
    typical
        Effects in samples of the atlas' own protocol, from which those of others are counted:
        errors of the atlas and smoothing make them small, but not 0.
    """
    found = find_effects(estimator, methylated, coverage)
    size = found.size - found.size.new_tensor(typical)
    sure = size.square() / found.variance
    size = size * (1 - _SURE_FROM**2 / sure.clamp(min=1e-9)).clamp(min=0)
    added = size[:, :1] + (size[:, 1:] - size[:, :1]) * found.beta
    return torch.addcmul(methylated, coverage, added, value=-1)


def find_effects(
    estimator: AtlasEstimator, methylated: Float[Tensor, "B R"], coverage: Float[Tensor, "B R"]
) -> Effects:
    """Estimate the effects by least squares, together with the tissues."""
    features, weight = estimator.features(methylated, coverage)
    gram, moment = estimator.normal_equations(features @ estimator.initial_rows().T, weight)
    beta = _proportions(gram, moment) @ estimator.mean
    features.mul_(estimator.scale)  # precision x centred beta value
    seen = _both(features.sum(dim=1), _dot(features, beta))
    weighted = weight * beta
    with_tissues = _both(weight @ estimator.centred.T, weighted @ estimator.centred.T)
    of_beta = _dot(weight, beta)
    with_lost = _both(of_beta, _dot(weighted, beta))  # of beta x weight
    with_gained = _both(weight.sum(dim=1), of_beta) - with_lost
    own = torch.stack([with_gained, with_lost], dim=2)
    # Solved for the effects: what the tissues explain of them is taken out.
    explained = torch.linalg.solve_ex(gram, with_tissues.transpose(1, 2)).result
    rest = seen - (moment[:, None] @ explained)[:, 0]
    covariance = torch.linalg.inv_ex(own - with_tissues @ explained).inverse
    size = (covariance @ rest[:, :, None])[:, :, 0]
    return Effects(size, covariance.diagonal(dim1=1, dim2=2), beta)


def _proportions(
    gram: Float[Tensor, "B T T"], moment: Float[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Return a first answer: least squares of the tissues that are more likely there."""
    solved = refit_called(gram, moment, spike_and_slab(gram, moment).found()).clamp(min=1e-6)
    return solved / solved.sum(dim=1, keepdim=True)


def _dot(one: Float[Tensor, "B R"], other: Float[Tensor, "B R"]) -> Float[Tensor, " B"]:
    """Return each sample's sum of products, without a pass over memory for the products."""
    return torch.bmm(one[:, None], other[:, :, None])[:, 0, 0]


def _both(whole: Tensor, of_beta: Tensor) -> Tensor:
    """Return sums over 1 - beta and over beta, given those over 1 and over beta."""
    return torch.stack([whole - of_beta, of_beta], dim=1)
