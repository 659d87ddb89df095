r"""Which tissues are present and how much of each, given least squares and sparsity.

`deconv.estimator` condenses a sample to the normal equations of its proportions p: a Gram
matrix G and a moment h with the likelihood :math:`\exp(-p^T G p / 2 + h^T p)`. A priori a
tissue is absent (p = 0 exactly, a spike) or its fraction lies in (0, 1] (a slab, denser
towards small fractions). Expectation propagation (Minka 2001; for spike and slab,
Hernandez-Lobato et al. 2015, https://doi.org/10.1007/s10994-014-5475-7) replaces each
tissue's prior by a Gaussian of matched moments, in turn given all others, so that related
tissues compete for the DNA that either could explain. Every step is a closed form.

Shape letters: B = samples, T = tissues.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deconv.prior import Slab, match_moments, odds_of_presence, slab_on

_SWEEPS = 8
_DAMPING = 0.6
_START = 25.0  # precision of a tissue's first Gaussian, sd .2
_LIMIT = 20.0  # of log odds; as probabilities, 2e-9 from 0 or 1


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


def spike_and_slab(gram: Float[Tensor, "B T T"], moment: Float[Tensor, "B T"]) -> Posterior:
    """Approximate the posterior of each tissue's fraction."""
    return _propagate(gram, moment, slab_on(gram.device))


def _propagate(
    gram: Float[Tensor, "B T T"], moment: Float[Tensor, "B T"], slab: Slab
) -> Posterior:
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
        log_weight, matched_mean, matched_variance = match_moments(estimate, std_error, slab)
        new_site = (1 / matched_variance - precision).clamp(1e-3, 1e9)
        new_shift = matched_mean * (new_site + precision) - estimate * precision
        step = 1.0 if sweep == 0 else _DAMPING
        site, shift = torch.lerp(site, new_site, step), torch.lerp(shift, new_shift, step)
    log_odds = odds_of_presence(log_weight, slab)
    return Posterior(_limited(log_odds), matched_mean, variance.sqrt(), estimate, std_error)


@cache
def compiled(device_type: str) -> Callable[[Tensor, Tensor], Posterior]:
    """Return `spike_and_slab` compiled for a size of batch.

    Its hundreds of small operations are nothing to a GPU beside what it costs to launch them:
    there they become a few kernels, launched at once as a CUDA graph.
    """
    mode = "reduce-overhead" if device_type == "cuda" else None
    propagate = torch.compile(_propagate, dynamic=False, mode=mode)

    def solve(gram: Tensor, moment: Tensor) -> Posterior:
        # What is the same in all calls is made outside, not copied to a GPU in each.
        return propagate(gram, moment, slab_on(gram.device))

    return solve


def presence_log_odds(
    estimate: Float[Tensor, "B T"], std_error: Float[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Return the log odds of presence that `spike_and_slab` gives such an estimate."""
    slab = slab_on(estimate.device)
    return _limited(odds_of_presence(match_moments(estimate, std_error, slab)[0], slab))


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
