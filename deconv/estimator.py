r"""The atlas estimator: weighted least squares for the proportions of a mixture.

The beta values of a mixture are :math:`x = A^T p + e`; in each region the error e has a
variance that the atlas predicts from the coverage (fewer reads), the mean (reads near 0
or 1 vary less) and the donors (no patient is the mean donor). Generalised least squares
weighs by the inverse of that variance, the sample's own precision, so an unobserved region
has weight 0 and a sample of any depth gets the estimate and the standard error that its
own reads support.

With p written as uniform + delta and the atlas centred over tissues, delta sums to 0 by
itself, and an observation at the reference mean says nothing.

The atlas is known from few donors. Its errors add to the Gram matrix what no tissue's
profile has, which would draw all proportions towards equal ones: that part is subtracted
(corrected least squares for errors in variables; Fuller 1987, Measurement Error Models).

Shape letters: B = samples, R = regions, T = tissues.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deconv.atlas import Atlas
from deconv.compiled.features import weigh, weigh_roughly
from deconv.compiled.threads import over_rows

_TYPICAL_COVERAGE = 10.0  # at which the features are scaled to unit noise
_RIDGE = 25.0  # precision, sd .2: what is known of a proportion before any data
_SMALLEST_MEAN = 0.01
"""Variances are those of means at least this far from 0 and 1. Where donors happen to agree on
an extreme value, the atlas would otherwise weigh its own error most."""
_LARGEST_CORRECTION = 0.5  # of the information in any direction
_CACHED_ROWS = 16
"""Samples whose residuals a CPU computes at a time, so that passes stay in its cache."""


class AtlasEstimator(nn.Module):
    """Turns counts into precision-weighted features and normal equations of the proportions.

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
        n_tissues = len(mean)
        rho = torch.from_numpy(atlas.rho)
        spread = _bernoulli_variance(mean) * rho
        # A mixture of four equal tissues has a quarter of the donor variance of one.
        donor_variance = spread.mean(dim=0) / 4
        read_variance = read_effect * _bernoulli_variance(reference)
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
        known = torch.from_numpy(atlas.n_donors)[:, None]
        error = torch.where(known > 0, mean * (1 - mean) * rho / known.clamp(min=1), 0.0)
        self._subtract_errors(error, typical_weight[None])
        first = torch.linalg.inv(self._ridged_gram(typical_weight[None]))[0]
        self._register(
            first_guess=(first @ centred).T.contiguous(),
            typical_share=typical_weight / typical_weight.square().sum(),
        )

    def _register(self, **buffers: Tensor) -> None:
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def _subtract_errors(
        self, error: Float[Tensor, "T R"], typical_weight: Float[Tensor, "1 R"]
    ) -> None:
        """Take out of the products what errors of the tissues' means are expected to add.

        Parameters
        ----------
        error
            Variance of the mean of each tissue.
        """
        n_tissues = len(error)
        first, second = self.upper
        # Of centred rows: cov(e_t - mean e, e_s - mean e).
        covariance = error.sum(dim=0) / n_tissues**2 - (error[first] + error[second]) / n_tissues
        covariance[first == second] += error
        products, gram = self.products, self._ridged_gram(typical_weight)
        self.products = covariance.T.contiguous()
        added = self._gram(typical_weight)
        largest = torch.linalg.eigvals(torch.linalg.solve(gram, added)).real.max()
        share = min(1.0, _LARGEST_CORRECTION / max(float(largest), 1e-9))
        self.products = products - share * self.products

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
        if coverage.device.type == "cpu":
            return self.features_compiled(methylated, coverage)
        return self.features_tensors(methylated, coverage)

    def features_compiled(
        self, methylated: Float[Tensor, "B R"], coverage: Float[Tensor, "B R"]
    ) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R"]]:
        """Compute `features` with compiled loops, in no memory but that of the result."""
        features, weight = torch.empty_like(coverage), torch.empty_like(coverage)
        relative = coverage.new_empty(len(coverage))
        over_rows(
            weigh_roughly, len(coverage),
            methylated, coverage, self.reference, self.read_variance, self.donor_variance,
            self.typical_share, features, relative,
        )  # fmt: skip
        guess = self._first_guess(features, relative)
        torch.mm(guess.square(), self.spread, out=features)
        torch.mm(guess, self.mean, out=weight)
        over_rows(
            weigh, len(coverage),
            methylated, coverage, self.reference, self.scale, np.float32(self.read_effect),
            np.float32(_SMALLEST_MEAN), features, weight,
        )  # fmt: skip
        return features, weight

    def features_tensors(
        self, methylated: Float[Tensor, "B R"], coverage: Float[Tensor, "B R"]
    ) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R"]]:
        """Compute `features` with operations on whole tensors."""
        # weight = coverage / variance and deviation = excess / coverage, so their product is
        # excess / variance.
        excess = methylated - coverage * self.reference
        variance = self.read_variance + coverage * self.donor_variance
        relative = (coverage / variance) @ self.typical_share
        guess = self._first_guess(excess / variance, relative)
        variance = torch.mm(guess.square(), self.spread).mul_(coverage)
        variance.add_(_bernoulli_variance(guess @ self.mean), alpha=self.read_effect)
        return excess.div_(variance).div_(self.scale), coverage / variance

    def _first_guess(
        self, weighted: Float[Tensor, "B R"], relative: Float[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """Return proportions from weighted deviations.

        ``relative`` says how much more or less a sample tells than one of typical coverage.
        """
        delta = weighted @ self.first_guess / relative[:, None].clamp(min=1e-6)
        proportions = (delta + 1 / len(self.mean)).clamp(min=1e-3)
        return proportions / proportions.sum(dim=1, keepdim=True)

    def residuals(
        self,
        methylated: Float[Tensor, "B R"],
        coverage: Float[Tensor, "B R"],
        proportions: Float[Tensor, "B T"],
    ) -> Float[Tensor, "B R"]:
        """Return what proportions leave unexplained, in standard deviations.

        Their squares are about 1 where the proportions explain a sample, and the residual
        is 0 where nothing is observed; see `features` for the variance.
        """
        mean = proportions @ self.mean
        variance = (proportions.square() @ self.spread) * coverage
        variance += self.read_effect * _bernoulli_variance(mean)
        return (methylated - coverage * mean) / (variance * coverage.clamp(min=1)).sqrt()

    def misfit(
        self,
        methylated: Float[Tensor, "B R"],
        coverage: Float[Tensor, "B R"],
        proportions: Float[Tensor, "B T"],
    ) -> Float[Tensor, " B"]:
        """Return the mean squared residual of the regions observed."""
        n_rows = _CACHED_ROWS if coverage.device.type == "cpu" else max(len(coverage), 1)
        parts = zip(*(x.split(n_rows) for x in (methylated, coverage, proportions)), strict=True)
        squares = [self.residuals(*part).square().sum(dim=1) for part in parts]
        return torch.cat(squares) / (coverage > 0).sum(dim=1).clamp(min=1)

    def normal_equations(
        self, projected: Float[Tensor, "B T"], weight: Float[Tensor, "B R"]
    ) -> tuple[Float[Tensor, "B T T"], Float[Tensor, "B T"]]:
        """Return the Gram matrix and the moment of each sample's proportions.

        Parameters
        ----------
        projected
            ``features @ rows.T``, with `initial_rows` or what training made of them.
        weight
            Precision of each region, from `features`.
        """
        gram = self._gram(weight)
        # The direction in which all proportions grow is not free: they sum to 1. (Where
        # nothing is observed, that is all that is known.)
        held = gram.diagonal(dim1=1, dim2=2).mean(dim=1).clamp(min=1.0)
        return gram + held[:, None, None], projected + held[:, None]

    def _gram(self, weight: Float[Tensor, "B R"]) -> Float[Tensor, "B T T"]:
        n_tissues = len(self.mean)
        gram = weight.new_empty(len(weight), n_tissues, n_tissues)
        flat = weight @ self.products
        gram[:, self.upper[0], self.upper[1]] = flat
        gram[:, self.upper[1], self.upper[0]] = flat
        return gram

    def _ridged_gram(self, weight: Float[Tensor, "B R"]) -> Float[Tensor, "B T T"]:
        """Return normal equations that can be inverted even if two tissues are alike."""
        gram = self.normal_equations(weight.new_zeros(len(weight), len(self.mean)), weight)[0]
        return gram + _RIDGE * torch.eye(len(self.mean))


def _bernoulli_variance(mean: Tensor) -> Tensor:
    """Return mean x (1 - mean), for a mean kept away from 0 and 1."""
    within = mean.clamp(_SMALLEST_MEAN, 1 - _SMALLEST_MEAN)
    return within * (1 - within)
