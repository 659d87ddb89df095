r"""Which tissues are present and how much of each, given least squares and sparsity.

`deconv.estimator` condenses a sample to the normal equations of its proportions p: a Gram
matrix G and a moment h with the likelihood :math:`\exp(-p^T G p / 2 + h^T p)`. A priori a
tissue is absent (p = 0 exactly, a spike) or its fraction lies in (0, 1] (a slab, denser
towards small fractions). Expectation propagation (Minka 2001; for spike and slab,
Hernandez-Lobato et al. 2015, https://doi.org/10.1007/s10994-014-5475-7) replaces each
tissue's prior by a Gaussian of matched moments, in turn given all others, so that related
tissues compete for the DNA that either could explain. Every step is a closed form.

Shape letters: B = samples, T = tissues, P = pieces of the prior.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.special import log_ndtr

_PRESENT = 0.2
"""Prior probability that a tissue is there at all: 3-5 of 22."""
_SLAB = ((1.0, 0.4), (0.2, 0.3), (0.05, 0.3))
"""Upper ends and weights of the uniform pieces whose mixture is the slab. Their density has
no step near 1 %, where presence is decided."""
_SWEEPS = 8
_DAMPING = 0.6
_START = 25.0  # precision of a tissue's first Gaussian, sd .2
_LIMIT = 20.0  # of log odds; as probabilities, 2e-9 from 0 or 1
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Posterior(NamedTuple):
    """What is known of each tissue; probabilities are of this model, not yet calibrated."""

    log_odds: Float[Tensor, "B T"]
    """That the fraction is at least the presence threshold."""
    mean: Float[Tensor, "B T"]
    deviation: Float[Tensor, "B T"]
    """Standard deviation around the mean."""
    estimate: Float[Tensor, "B T"]
    """Least squares for this tissue, given what the others are; may be negative."""
    std_error: Float[Tensor, "B T"]

    def found(self) -> Bool[Tensor, "B T"]:
        """Return which tissues are more likely there, and always the likeliest."""
        return (self.log_odds > 0) | (self.log_odds == self.log_odds.amax(dim=1, keepdim=True))


def spike_and_slab(
    gram: Float[Tensor, "B T T"], moment: Float[Tensor, "B T"], *, present_from: float = 0.01
) -> Posterior:
    """Approximate the posterior of each tissue's fraction."""
    site = torch.full_like(moment, _START)
    shift = site / moment.shape[1]
    for sweep in range(_SWEEPS):
        # inv_ex does not wait for a GPU to say whether it worked
        covariance = torch.linalg.inv_ex(gram + torch.diag_embed(site)).inverse
        mean = (covariance @ (moment + shift)[:, :, None])[:, :, 0]
        variance = covariance.diagonal(dim1=1, dim2=2).clamp(min=1e-12)
        # Cavity: the tissue given the others, without its own prior.
        precision = (1 / variance - site).clamp(min=1e-2)
        estimate = (mean / variance - shift) / precision
        std_error = precision.rsqrt()
        log_odds, matched_mean, matched_variance = _match(estimate, std_error, present_from)
        new_site = (1 / matched_variance - precision).clamp(1e-3, 1e9)
        new_shift = matched_mean * (new_site + precision) - estimate * precision
        step = 1.0 if sweep == 0 else _DAMPING
        site, shift = torch.lerp(site, new_site, step), torch.lerp(shift, new_shift, step)
    return Posterior(_limited(log_odds), matched_mean, variance.sqrt(), estimate, std_error)


@cache
def compiled(device_type: str) -> Callable[[Tensor, Tensor], Posterior]:
    """Return `spike_and_slab` compiled for a size of batch.

    Its hundreds of small operations are nothing to a GPU beside what it costs to launch them:
    there they become a few kernels, launched at once as a CUDA graph.
    """
    mode = "reduce-overhead" if device_type == "cuda" else None
    function: Callable[[Tensor, Tensor], Posterior] = torch.compile(
        spike_and_slab, dynamic=False, mode=mode
    )
    return function


def presence_log_odds(
    estimate: Float[Tensor, "B T"], std_error: Float[Tensor, "B T"], *, present_from: float = 0.01
) -> Float[Tensor, "B T"]:
    """Return the log odds of presence that `spike_and_slab` gives such an estimate."""
    return _limited(_match(estimate, std_error, present_from)[0])


def smallest_estimate(
    log_odds: Float[Tensor, "B T"], std_error: Float[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Return the estimate from which on the log odds of presence exceed ``log_odds``.

    By bisection, to 2^-20; 1 where no estimate does.
    """
    low, high = torch.zeros_like(std_error), torch.ones_like(std_error)
    for _ in range(20):
        middle = (low + high) / 2
        enough = presence_log_odds(middle, std_error) > log_odds
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high


def refit(
    gram: Float[Tensor, "B T T"],
    moment: Float[Tensor, "B T"],
    gate_logits: Float[Tensor, "B T"],
) -> Float[Tensor, "B T"]:
    """Solve least squares again with each tissue held back as far as its gate is closed.

    The ridge of a tissue is its own precision times the odds against it, so that alone it
    would keep the share sigmoid(logit) of its estimate. The gradient reaches the gates.
    """
    own = gram.diagonal(dim1=1, dim2=2)
    ridge = own * (-gate_logits).clamp(max=_LIMIT).exp()
    scale = (own + ridge).rsqrt()
    scaled = (gram + torch.diag_embed(ridge)) * scale[:, :, None] * scale[:, None, :]
    solution: Tensor = torch.linalg.solve_ex(scaled, scale * moment).result
    return solution * scale


def refit_called(
    gram: Float[Tensor, "B T T"], moment: Float[Tensor, "B T"], call: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Return least squares of the called tissues alone, 0 for the others."""
    kept = call.to(gram.dtype)
    system = gram * kept[:, :, None] * kept[:, None, :] + torch.diag_embed(1 - kept)
    solution: Tensor = torch.linalg.solve_ex(system, moment * kept).result
    return solution


def _limited(log_odds: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    return _LIMIT * torch.tanh(log_odds / _LIMIT)


def _match(
    mean: Float[Tensor, "B T"], error: Float[Tensor, "B T"], present_from: float
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Return log odds of presence, and mean and variance, of Gaussian times prior."""
    low, high, log_density, n_absent = _slab(present_from, mean.device)
    log_mass, middle, spread = _interval(mean, error, low, high)
    log_weight = torch.cat([_spike(mean, error)[None], log_mass + log_density])
    share = log_weight.softmax(dim=0)
    of_slab = share[1:]
    total = (of_slab * middle).sum(dim=0)
    within = (of_slab * spread).sum(dim=0)
    between = (of_slab * (middle - total).square()).sum(dim=0) + share[0] * total.square()
    absent, present = log_weight[: 1 + n_absent], log_weight[1 + n_absent :]
    log_odds = present.logsumexp(dim=0) - absent.logsumexp(dim=0)
    return log_odds, total, (within + between).clamp(min=1e-10)


@cache
def _slab(
    present_from: float, device: torch.device
) -> tuple[Float[Tensor, "P 1 1"], Float[Tensor, "P 1 1"], Float[Tensor, "P 1 1"], int]:
    """Return ends and log density of the intervals in which the slab is constant.

    It is cut at the presence threshold too; the number is of those below it.
    """
    edges = sorted({0.0, present_from, *(high for high, _ in _SLAB)})
    density = [
        _PRESENT * sum(weight / end for end, weight in _SLAB if end >= high) for high in edges[1:]
    ]
    low, high, log_density = (
        torch.tensor(values, device=device)[:, None, None]
        for values in (edges[:-1], edges[1:], [math.log(d) for d in density])
    )
    return low, high, log_density, edges.index(present_from)


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
