"""Reference profiles: what is known of each tissue's methylation, from its donors.

Shape letters: D = donors, T = tissues, R = regions.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Integer

from deconv.counts import Samples
from deconv.errors import InputError
from deconv.regions import RegionSet

_PRIOR_OBSERVATIONS = 2.0  # weight of the tissue mean in a donor's profile
_PRIOR_DONORS = 10.0  # weight of the typical region in a region's dispersion
_ASSUMED_RHO = 0.02  # between donors, where no tissue has two; median of real atlases


@dataclass(frozen=True, eq=False)
class Atlas:
    """Reference profiles and what mixtures of them will look like.

    Attributes
    ----------
    tissues
        Names, in the order of the rows.
    mean
        Mean beta value over donors, strictly between 0 and 1.
    rho
        Between-donor dispersion: a donor's beta varies by rho x mean x (1 - mean).
    profile
        Expected coverage of each region relative to the mean region.
    n_donors
        Donors behind the mean of each tissue, 0 where that is not known.
    """

    tissues: tuple[str, ...]
    regions: RegionSet
    mean: Float[np.ndarray, "T R"]
    rho: Float[np.ndarray, " R"]
    profile: Float[np.ndarray, " R"]
    n_donors: Int[np.ndarray, " T"]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of tissues, regions and profiles."""
        digest = hashlib.sha256("\n".join((self.regions.content_hash, *self.tissues)).encode())
        for array in (self.mean, self.rho, self.profile):
            digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
        digest.update(np.ascontiguousarray(self.n_donors, dtype="<i8").tobytes())
        return digest.hexdigest()


def build_atlas(counts: Samples) -> Atlas:
    """Average the donors of each tissue, in two passes over the samples.

    A region that no donor of a tissue covers takes the mean of the other tissues, so
    that it says nothing for or against that tissue.

    Raises
    ------
    InputError
        If there are fewer than two tissues.
    """
    counts.require("tissue", "donor")
    tissues = tuple(sorted(counts.samples["tissue"].unique()))
    if len(tissues) < 2:
        raise InputError("an atlas needs two tissues or more", got=", ".join(tissues))
    of_tissue = np.array([tissues.index(t) for t in counts.samples["tissue"]])
    n_regions = len(counts.regions)
    total, weighted = np.zeros((2, len(tissues), n_regions))
    profile = np.zeros(n_regions)
    for tissue, (methylated, coverage) in zip(of_tissue, counts.rows(), strict=True):
        # A donor counts by n / (n + 20): deep ones equally, shallow ones by their reads.
        weight = coverage / (coverage + 20.0)
        total[tissue] += weight
        weighted[tissue] += weight * methylated / np.maximum(coverage, 1)
        profile += coverage / max(coverage.mean(dtype=np.float64), 1e-9)
    mean = _tissue_means(total, weighted)
    profile /= len(counts)
    n_donors = np.bincount(of_tissue, minlength=len(tissues))
    rho = _dispersion(counts, mean, of_tissue, n_donors)
    return Atlas(tissues, counts.regions, mean, rho, profile.astype(np.float32), n_donors)


def atlas_from_means(
    tissues: Sequence[str], regions: RegionSet, mean: Float[np.ndarray, "T R"]
) -> Atlas:
    """Make an atlas of published means, whose donors are not known.

    NaN means not stated; see `build_atlas` for what becomes of it. The dispersion between
    donors is assumed to be that of other atlases, and coverage to be even.

    Raises
    ------
    InputError
        If there are fewer than two tissues.
    """
    if len(tissues) < 2:
        raise InputError("an atlas needs two tissues or more", got=", ".join(tissues))
    stated = np.isfinite(mean)
    filled = _tissue_means(stated.astype(np.float64), np.where(stated, mean, 0))
    rho = np.full(len(regions), _ASSUMED_RHO, dtype=np.float32)
    unknown = np.zeros(len(tissues), dtype=np.int64)
    return Atlas(tuple(tissues), regions, filled, rho, np.ones_like(rho), unknown)


def smoothed_beta(
    methylated: Integer[np.ndarray, " R"],
    coverage: Integer[np.ndarray, " R"],
    expected: Float[np.ndarray, " R"],
) -> Float[np.ndarray, " R"]:
    """Return a sample's beta values, drawn towards ``expected`` where coverage is low."""
    smoothed = (methylated + _PRIOR_OBSERVATIONS * expected) / (coverage + _PRIOR_OBSERVATIONS)
    return smoothed.astype(np.float32)


def _tissue_means(
    total: Float[np.ndarray, "T R"], weighted: Float[np.ndarray, "T R"]
) -> Float[np.ndarray, "T R"]:
    observed = total > 0
    mean = weighted / np.where(observed, total, 1)
    n_observed = observed.sum(axis=0)
    of_others = np.where(observed, mean, 0).sum(axis=0) / np.maximum(n_observed, 1)
    mean = np.where(observed, mean, np.where(n_observed > 0, of_others, 0.5))
    return mean.clip(1e-3, 1 - 1e-3).astype(np.float32)


def _dispersion(
    counts: Samples,
    mean: Float[np.ndarray, "T R"],
    of_tissue: np.ndarray,
    n_donors: Int[np.ndarray, " T"],
) -> Float[np.ndarray, " R"]:
    """Estimate rho by moments, each region's drawn towards that of all regions."""
    if n_donors.max() < 2:
        return np.full(mean.shape[1], _ASSUMED_RHO, dtype=np.float32)
    freedom = n_donors - 1.0  # the mean was fitted to the same donors
    scale = freedom @ (mean * (1 - mean))
    squares = np.zeros(mean.shape[1])
    for tissue, (methylated, coverage) in zip(of_tissue, counts.rows(), strict=True):
        if freedom[tissue]:
            beta = smoothed_beta(methylated, coverage, mean[tissue])
            squares += (beta - mean[tissue]) ** 2
    typical = squares.sum() / scale.sum()
    prior = _PRIOR_DONORS * scale.mean() / freedom.sum()
    rho = (squares + prior * typical) / (scale + prior)
    return np.asarray(rho.clip(1e-3, 0.5), dtype=np.float32)
