"""Reference profiles: what is known of each tissue's methylation, from its donors.

Shape letters: D = donors, T = tissues, R = regions.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from deconv.counts import RegionCounts
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
    """

    tissues: tuple[str, ...]
    regions: RegionSet
    mean: Float[np.ndarray, "T R"]
    rho: Float[np.ndarray, " R"]
    profile: Float[np.ndarray, " R"]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of tissues, regions and profiles."""
        digest = hashlib.sha256("\n".join((self.regions.content_hash, *self.tissues)).encode())
        for array in (self.mean, self.rho, self.profile):
            digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
        return digest.hexdigest()


def build_atlas(counts: RegionCounts) -> Atlas:
    """Average the donors of each tissue.

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
    mean = _tissue_means(counts, of_tissue, len(tissues))
    beta = smoothed_beta(counts, mean[of_tissue])
    depth = counts.coverage.mean(axis=1, keepdims=True, dtype=np.float64)
    profile = (counts.coverage / np.maximum(depth, 1e-9)).mean(axis=0)
    return Atlas(
        tissues,
        counts.regions,
        mean,
        _dispersion(beta, mean, of_tissue),
        profile.astype(np.float32),
    )


def smoothed_beta(
    counts: RegionCounts, expected: Float[np.ndarray, "D R"]
) -> Float[np.ndarray, "D R"]:
    """Return each sample's beta values, drawn towards ``expected`` where coverage is low."""
    methylated = counts.methylated + _PRIOR_OBSERVATIONS * expected
    return (methylated / (counts.coverage + _PRIOR_OBSERVATIONS)).astype(np.float32)


def _tissue_means(
    counts: RegionCounts, of_tissue: np.ndarray, n_tissues: int
) -> Float[np.ndarray, "T R"]:
    # A donor counts by n / (n + 20): deep ones equally, shallow ones by their reads.
    weight = counts.coverage / (counts.coverage + 20.0)
    beta = np.nan_to_num(counts.beta)
    member = (of_tissue == np.arange(n_tissues)[:, None]).astype(np.float64)
    total = member @ weight
    with np.errstate(invalid="ignore"):
        mean = (member @ (weight * beta)) / total
    observed = total > 0
    n_observed = observed.sum(axis=0)
    of_others = np.where(observed, mean, 0).sum(axis=0) / np.maximum(n_observed, 1)
    mean = np.where(observed, mean, np.where(n_observed > 0, of_others, 0.5))
    return mean.clip(1e-3, 1 - 1e-3).astype(np.float32)


def _dispersion(
    beta: Float[np.ndarray, "D R"], mean: Float[np.ndarray, "T R"], of_tissue: np.ndarray
) -> Float[np.ndarray, " R"]:
    """Estimate rho by moments, each region's drawn towards that of all regions."""
    n_donors = np.bincount(of_tissue, minlength=len(mean))
    freedom = (1 - 1 / n_donors)[of_tissue, None]  # the mean was fitted to the same donors
    expected = mean[of_tissue]
    scale = freedom * expected * (1 - expected)
    squares = np.where(freedom > 0, (beta - expected) ** 2, 0).sum(axis=0)
    scale = scale.sum(axis=0)
    if not scale.any():
        return np.full(mean.shape[1], _ASSUMED_RHO, dtype=np.float32)
    typical = squares.sum() / scale.sum()
    prior = _PRIOR_DONORS * scale.mean() / freedom.sum()
    rho = (squares + prior * typical) / (scale + prior)
    return np.asarray(rho.clip(1e-3, 0.5), dtype=np.float32)
