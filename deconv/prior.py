"""A tissue's fraction a priori: exactly 0, or in (0, 1] with small fractions likelier.

Shape letters: B = samples, T = tissues, P = pieces of the prior.
"""

import math
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.special import log_ndtr

from deconv.metrics import PRESENT_FROM

_PRESENT = 0.2
"""Prior probability that a tissue is there at all: 3-5 of 22."""
_PIECES = ((1.0, 0.4), (0.2, 0.3), (0.05, 0.3))
"""Upper ends and weights of the uniform pieces whose mixture is the slab. Their density has
no step near 1 %, where presence is decided."""
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Slab(NamedTuple):
    """Intervals in which the density of fractions above 0 is constant."""

    low: Float[Tensor, "P 1 1"]
    high: Float[Tensor, "P 1 1"]
    log_density: Float[Tensor, "P 1 1"]
    n_absent: int  # below the threshold


@cache
def slab_on(device: torch.device) -> Slab:
    """Return the slab, cut at the presence threshold too."""
    edges = sorted({0.0, PRESENT_FROM, *(high for high, _ in _PIECES)})
    density = [
        _PRESENT * sum(weight / end for end, weight in _PIECES if end >= high)
        for high in edges[1:]
    ]
    low, high, log_density = (
        torch.tensor(values, device=device)[:, None, None]
        for values in (edges[:-1], edges[1:], [math.log(d) for d in density])
    )
    return Slab(low, high, log_density, edges.index(PRESENT_FROM))


def match_moments(
    mean: Float[Tensor, "B T"], error: Float[Tensor, "B T"], slab: Slab
) -> tuple[Float[Tensor, "weights B T"], Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Return log weights of spike and pieces, and mean and variance, of Gaussian times prior."""
    log_mass, middle, spread = _interval(mean, error, slab.low, slab.high)
    log_weight = torch.cat([_spike(mean, error)[None], log_mass + slab.log_density])
    share = log_weight.softmax(dim=0)
    of_slab = share[1:]
    total = (of_slab * middle).sum(dim=0)
    within = (of_slab * spread).sum(dim=0)
    between = (of_slab * (middle - total).square()).sum(dim=0) + share[0] * total.square()
    return log_weight, total, (within + between).clamp(min=1e-10)


def odds_of_presence(log_weight: Float[Tensor, "weights B T"], slab: Slab) -> Float[Tensor, "B T"]:
    """Return the log odds that the fraction is at least the presence threshold."""
    absent, present = log_weight[: 1 + slab.n_absent], log_weight[1 + slab.n_absent :]
    return present.logsumexp(dim=0) - absent.logsumexp(dim=0)


def _spike(mean: Float[Tensor, "B T"], error: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Return the log density of a Gaussian at 0, weighted as the spike is."""
    at_zero = -(mean / error).square() / 2 - error.log() - _HALF_LOG_2PI
    return at_zero + math.log(1 - _PRESENT)


def _interval(
    mean: Float[Tensor, "B T"],
    error: Float[Tensor, "B T"],
    low: Float[Tensor, "P 1 1"],
    high: Float[Tensor, "P 1 1"],
) -> tuple[Float[Tensor, "P B T"], Float[Tensor, "P B T"], Float[Tensor, "P B T"]]:
    """Return log mass, mean and variance of a Gaussian truncated to each interval."""
    below, above = (low - mean) / error, (high - mean) / error
    # In the upper tail, where both distribution functions are 1, use the mirror image.
    mirrored = below > 0
    left = torch.where(mirrored, -above, below)
    right = torch.where(mirrored, -below, above)
    log_right, log_left = log_ndtr(right), log_ndtr(left)
    log_mass = log_right + torch.log(-torch.expm1((log_left - log_right).clamp(max=-1e-7)))
    at_low = torch.exp(-below.square() / 2 - _HALF_LOG_2PI - log_mass)
    at_high = torch.exp(-above.square() / 2 - _HALF_LOG_2PI - log_mass)
    middle = (mean + error * (at_low - at_high)).clamp(low, high)
    shrunk = 1 + below * at_low - above * at_high - (at_low - at_high).square()
    # Far in a tail the variance is a difference of large numbers; it is below these bounds.
    bound = torch.minimum(error.square(), (high - low).square() / 12)
    return log_mass, middle, torch.minimum((error.square() * shrunk).clamp(min=0), bound)
