r"""The atlas estimator: weighted least squares for the proportions of a mixture.

The beta values of a mixture are :math:`x = A^T p + e`; in each region the error e has a
variance that the atlas predicts from the coverage (fewer reads), the mean (reads near 0
or 1 vary less) and the donors (no patient is the mean donor). Generalised least squares
weighs by the inverse of that variance, the sample's own precision, so an unobserved region
has weight 0 and a sample of any depth gets the estimate and the standard error that its
own reads support.

With p written as uniform + delta and the atlas centred over tissues, delta sums to 0 by
itself, and an observation at the reference mean says nothing.

Shape letters: B = samples, R = regions, T = tissues.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deconv.atlas import Atlas

_RIDGE = 25.0  # prior precision of a proportion, sd .2: keeps tissues without coverage finite
_TYPICAL_COVERAGE = 10.0  # at which the features are scaled to unit noise
_LOGIT_LIMIT = 20.0
_SQRT_2PI = math.sqrt(2 * math.pi)


class Estimate(NamedTuple):
    """Proportions before any sign or sum constraint, and their standard errors."""

    proportions: Float[Tensor, "B T"]
    std_error: Float[Tensor, "B T"]


class AtlasEstimator(nn.Module):
    """Turns counts into precision-weighted features and solves for the proportions.

    Parameters
    ----------
    atlas
        Reference profiles; their tissue and region order is that of all tensors here.
    read_effect
        How many observations of a read tell as much as one, see `deconv.mixtures`.
    """

    mean: Float[Tensor, "T R"]
    spread: Float[Tensor, "T R"]
    centred: Float[Tensor, "T R"]
    reference: Float[Tensor, " R"]
    donor_variance: Float[Tensor, " R"]
    read_variance: Float[Tensor, " R"]
    scale: Float[Tensor, " R"]
    typical_share: Float[Tensor, " R"]
    products: Float[Tensor, "R pairs"]
    upper: Int[Tensor, "2 pairs"]
    first_guess: Float[Tensor, "R T"]

    def __init__(self, atlas: Atlas, *, read_effect: float) -> None:
        super().__init__()
        self.read_effect = read_effect
        mean = torch.from_numpy(atlas.mean)
        reference = mean.mean(dim=0)
        centred = mean - reference
        rho = torch.from_numpy(atlas.rho)
        n_tissues = len(mean)
        spread = mean * (1 - mean) * rho
        # A mixture of four equal tissues has a quarter of the donor variance of one.
        donor_variance = spread.mean(dim=0) / 4
        read_variance = read_effect * reference * (1 - reference)
        typical = _TYPICAL_COVERAGE * torch.from_numpy(atlas.profile)
        typical_weight = (typical + 1) / (typical * donor_variance + read_variance)

        upper = torch.triu_indices(n_tissues, n_tissues)
        self._register(
            mean=mean,
            spread=spread,
            reference=reference,
            centred=centred,
            donor_variance=donor_variance,
            read_variance=read_variance,
            scale=typical_weight.sqrt(),
            # Products of atlas rows, upper triangle: weights @ products is the Gram matrix.
            products=(centred[upper[0]] * centred[upper[1]]).T.contiguous(),
            upper=upper,
        )
        first = torch.linalg.inv(self._gram(typical_weight[None]))[0]
        self._register(
            first_guess=(first @ centred).T.contiguous(),
            typical_share=typical_weight / typical_weight.square().sum(),
        )

    def _register(self, **buffers: Tensor) -> None:
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def initial_rows(self) -> Float[Tensor, "T R"]:
        """Return the projection of the features that makes `solve` least squares."""
        return self.centred * self.scale

    def features(
        self, methylated: Float[Tensor, "B R"], coverage: Float[Tensor, "B R"]
    ) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R"]]:
        """Return scaled precision x centred beta value, and the precision itself.

        The precision depends on the mixture, which is what is sought: a first guess at
        a fixed precision is good enough for it.
        """
        # weight = coverage / variance and deviation = excess / coverage, so their product is
        # excess / variance. In place: these are passes over memory, not arithmetic.
        excess = torch.addcmul(methylated, coverage, self.reference, value=-1)
        variance = torch.addcmul(self.read_variance, coverage, self.donor_variance)
        guess = self._first_guess(excess / variance, torch.div(coverage, variance))
        mean = guess @ self.mean
        mean.addcmul_(mean, mean, value=-1)
        variance = (guess.square() @ self.spread).mul_(coverage)
        variance.add_(mean, alpha=self.read_effect)
        weight = torch.div(coverage, variance, out=mean)
        return excess.div_(variance).div_(self.scale), weight

    def _first_guess(
        self, weighted: Float[Tensor, "B R"], weight: Float[Tensor, "B R"]
    ) -> Float[Tensor, "B T"]:
        # How much more or less this sample tells than one of typical coverage.
        relative = (weight @ self.typical_share)[:, None]
        delta = weighted @ self.first_guess / relative.clamp(min=1e-6)
        proportions = (delta + 1 / len(self.mean)).clamp(min=1e-3)
        return proportions / proportions.sum(dim=1, keepdim=True)

    def solve(self, projected: Float[Tensor, "B T"], weight: Float[Tensor, "B R"]) -> Estimate:
        """Solve the normal equations of each sample.

        Parameters
        ----------
        projected
            ``features @ rows.T``, with `initial_rows` or what training made of them.
        weight
            Precision of each region, from `features`.
        """
        # inv_ex does not wait for a GPU to say whether it worked; with the ridge it does.
        covariance = torch.linalg.inv_ex(self._gram(weight)).inverse
        delta = (covariance @ projected[:, :, None])[:, :, 0]
        variance = covariance.diagonal(dim1=1, dim2=2)
        return Estimate(delta + 1 / len(self.mean), variance.clamp(min=1e-12).sqrt())

    def _gram(self, weight: Float[Tensor, "B R"]) -> Float[Tensor, "B T T"]:
        n_tissues = len(self.mean)
        gram = weight.new_empty(len(weight), n_tissues, n_tissues)
        flat = weight @ self.products
        gram[:, self.upper[0], self.upper[1]] = flat
        gram[:, self.upper[1], self.upper[0]] = flat
        gram.diagonal(dim1=1, dim2=2).add_(_RIDGE)
        # The direction in which all proportions grow is not free: they sum to 1.
        return gram + gram.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]


def presence_log_odds(
    estimate: Estimate, *, threshold: float, prior: float = 0.2
) -> Float[Tensor, "B T"]:
    r"""Return the log odds that a tissue is present, given its estimate.

    Spike and slab: an absent tissue's estimate is normal around 0, a present one's around
    a fraction uniform from ``threshold`` to 1. Limited softly to +-20.
    """
    fraction, error = estimate
    log_slab = torch.special.log_ndtr((fraction - threshold) / error)
    log_ratio = log_slab + (error * _SQRT_2PI).log() + (fraction / error).square() / 2
    odds = log_ratio + math.log(prior / (1 - prior))
    return _LOGIT_LIMIT * torch.tanh(odds / _LOGIT_LIMIT)
