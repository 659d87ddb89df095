"""Robust non-negative regression: regions that contradict the rest count less.

Shape letters: B = samples of a block, T = tissues, R = regions.
"""

import numpy as np
from jaxtyping import Float, Int

from deconv.atlas import Atlas
from deconv.baselines.least_squares import as_deconvolution, blocks, fit
from deconv.counts import RegionCounts
from deconv.predictor import MIN_OVERLAP, Deconvolution, observed_at

_BLOCK = 128  # samples; residuals of a block at 51,089 regions are 26 MB
_TUNING = 1.345  # in standard deviations: 95 % efficient where errors are normal (Huber)
_MAD_TO_SD = 1.4826  # of a normal distribution
_MARGIN = 0.05  # beta values closer to 0 or 1 vary as at it: one stray read is no outlier
_TOLERANCE = 1e-4  # change of any amount
_MAX_ITERATIONS = 20  # as MASS::rlm's


class RobustRegression:
    """Huber M-estimation on the atlas' means, with coverage weights and non-negative amounts.

    The robust regression of EpiDISH's RPC [1]_ (R's MASS::rlm with its defaults [2]_:
    Huber weights at 1.345 standard deviations, the scale by the median absolute
    residual), but for counts: residuals are in binomial standard deviations, and each
    iteration solves non-negative least squares instead of setting negative estimates to
    0 at the end. In shallow samples the few reads of a small tissue are outliers by this
    measure, and it misses such tissues: it is for samples with spoilt regions.

    References
    ----------
    .. [1] Teschendorff et al. (2017), https://doi.org/10.1186/s12859-017-1511-5
    .. [2] Venables & Ripley (2002), Modern Applied Statistics with S, section 6.5
    """

    def __init__(self, atlas: Atlas, *, min_overlap: float = MIN_OVERLAP) -> None:
        self.atlas, self.min_overlap = atlas, min_overlap

    def predict(self, counts: RegionCounts) -> Deconvolution:
        """Deconvolve samples; errors as of the network."""
        counts = observed_at(self.atlas, counts, self.min_overlap)
        amounts = np.empty((len(counts), len(self.atlas.tissues)))
        for rows in blocks(len(counts), _BLOCK):
            amounts[rows] = fit_robustly(
                self.atlas.mean, counts.methylated[rows], counts.coverage[rows]
            )
        return as_deconvolution(self.atlas, amounts)


def fit_robustly(
    profiles: Float[np.ndarray, "T R"],
    methylated: Int[np.ndarray, "B R"],
    coverage: Int[np.ndarray, "B R"],
) -> Float[np.ndarray, "B T"]:
    """Return amounts by iteratively reweighted non-negative least squares.

    Each sample stops by itself, so that its result does not depend on its company.
    """
    amounts = fit(profiles, methylated, coverage, coverage)
    active = np.arange(len(amounts))
    for _ in range(_MAX_ITERATIONS):
        counts = methylated[active], coverage[active]
        weight = coverage_times_huber(amounts[active], profiles, *counts)
        improved = fit(profiles, *counts, weight)
        moved = np.abs(improved - amounts[active]).max(axis=1) >= _TOLERANCE
        amounts[active] = improved
        active = active[moved]
        if not active.size:
            break
    return amounts


def coverage_times_huber(
    amounts: Float[np.ndarray, "B T"],
    profiles: Float[np.ndarray, "T R"],
    methylated: Int[np.ndarray, "B R"],
    coverage: Int[np.ndarray, "B R"],
) -> Float[np.ndarray, "B R"]:
    """Return the weight of each region given the residuals at ``amounts``.

    Residuals are in binomial standard deviations at the fit: reads of a region near 0 or
    1 hardly vary, and by their measure every marker of a tissue present would be an
    outlier. Their typical size in the sample is then the overdispersion, never below 1,
    as the median is 0 where shallow regions are all methylated.
    """
    depth = coverage.astype(np.float32, order="C")
    beta = amounts.astype(np.float32) @ profiles.astype(np.float32)
    residual = np.abs(methylated.astype(np.float32, order="C") - depth * beta)
    np.clip(beta, _MARGIN, 1 - _MARGIN, out=beta)
    residual /= np.sqrt(np.maximum(depth, 1) * (beta * (1 - beta)))
    typical = [np.median(r[d > 0]) for r, d in zip(residual, depth, strict=True)]
    limit = np.float32(_TUNING) * np.maximum(_MAD_TO_SD * np.array(typical, np.float32), 1)
    # limit / max(limit, residual) is 1 within the limit and falls as 1 / residual beyond.
    weight: Float[np.ndarray, "B R"] = depth * limit[:, None]
    weight /= np.maximum(residual, limit[:, None])
    return weight
