"""What can be measured of samples before anything is said of their tissues.

Shape letters: N = samples, T = tissues, R = regions.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Integer

from deconv.alike import Alike
from deconv.atlas import Atlas
from deconv.counts import RegionCounts
from deconv.sex import told_sex

INFORMATIVE_FROM = 0.3
"""Difference between a tissue's mean and that of all others that makes a region speak for it."""
N_INFORMATIVE = 25
"""A tissue with fewer such regions has as many: those of its largest differences."""
MIN_SHARE, MIN_REGIONS = 0.2, 5
"""Of a tissue's informative regions, those that must be observed to say it is not there."""
LABELS = ("donor", "tissue", "group", "sex", "conversion")
"""Columns of a sample table that the checks know."""

_SIGNATURE = 500  # regions that duplicates are looked for in: all samples are compared
_DEEP = 5  # observations, from which on two libraries seldom have the same count by chance


@dataclass(frozen=True)
class Measured:
    """What was measured of samples.

    Attributes
    ----------
    tissues
        Those of the atlas that the samples were compared with; none without one.
    table
        A row per sample: `n_observed` regions, mean `coverage`, `misfit` (mean squared
        residual of the best fit of the atlas in units of its expected variance; 1 or less is
        good; NaN without an atlas), `correlation` of that fit with the data, `shift` (mean of
        the data's beta values less the fit's), `sex` ("male", "female" or "" where it cannot be
        told), `content` (a hash), and those `LABELS` that the data have.
    observed
        Informative regions of each tissue that are observed.
    signature
        Counts in some regions, to find duplicates by: (methylated, coverage).
    alike
        How the samples compare with each other, where all of them were gone through.
    """

    tissues: tuple[str, ...]
    n_regions: int
    n_informative: Int[np.ndarray, " T"]
    table: pd.DataFrame
    observed: Int[np.ndarray, "N T"]
    signature: Int[np.ndarray, "N 2 s"]
    alike: Alike | None = None

    @property
    def assessable(self) -> Bool[np.ndarray, "N T"]:
        """Whether enough of a tissue's informative regions are observed to say it is absent."""
        return enough_observed(self.observed, self.n_informative)

    def take(self, rows: Int[np.ndarray, " n"]) -> "Measured":
        """Return what was measured of the samples at these positions."""
        return replace(
            self, table=self.table.iloc[rows], observed=self.observed[rows],
            signature=self.signature[rows],
        )  # fmt: skip


def informative_regions(atlas: Atlas, target: np.ndarray | None = None) -> Bool[np.ndarray, "T R"]:
    """Return which regions speak for each tissue.

    Parameters
    ----------
    target
        The tissue that each region is said to mark. Without, regions whose mean differs by
        `INFORMATIVE_FROM` from the mean of the other tissues.
    """
    if target is not None:
        marked = np.array([target == tissue for tissue in atlas.tissues])
        if marked.any(axis=1).all():
            return marked
    n_tissues, n_regions = atlas.mean.shape
    others = (atlas.mean.sum(axis=0, dtype=np.float64) - atlas.mean) / (n_tissues - 1)
    difference = np.abs(atlas.mean - others)
    best = np.sort(difference, axis=1)[:, -min(N_INFORMATIVE, n_regions)]
    return np.asarray(difference >= np.minimum(best, INFORMATIVE_FROM)[:, None])


def n_observed(
    coverage: Integer[np.ndarray, "N R"], informative: Bool[np.ndarray, "T R"]
) -> Int[np.ndarray, "N T"]:
    """Return how many of each tissue's informative regions each sample observes."""
    # Exact in single precision up to 2^24 regions, and many times quicker than integers.
    found = (coverage > 0).astype(np.float32) @ informative.T.astype(np.float32)
    return found.astype(np.int64)


def enough_observed(
    observed: Int[np.ndarray, "N T"], n_informative: Int[np.ndarray, " T"]
) -> Bool[np.ndarray, "N T"]:
    """Return whether so many of the informative regions let one say that a tissue is absent."""
    enough = observed >= MIN_SHARE * n_informative
    return np.asarray(enough & (observed >= np.minimum(MIN_REGIONS, n_informative)))


def measure(atlas: Atlas, counts: RegionCounts, informative: Bool[np.ndarray, "T R"]) -> Measured:
    """Measure samples, whose counts are at the atlas' regions."""
    return with_tissues(measure_counts(counts), atlas, counts, informative)


def measure_counts(counts: RegionCounts) -> Measured:
    """Measure what can be told of samples without an atlas."""
    coverage = counts.coverage
    n_regions = len(counts.regions)
    table = pd.DataFrame(
        {
            "n_observed": (coverage > 0).sum(axis=1),
            "coverage": coverage.mean(axis=1, dtype=np.float64),
            "misfit": np.nan,
            "correlation": np.nan,
            "shift": np.nan,
            "sex": told_sex(counts.regions.chrom, coverage),
            "content": [
                hashlib.sha256(np.stack(pair).astype("<i8").tobytes()).hexdigest()
                for pair in counts.rows()
            ],
        },
        index=counts.samples.index,
    )
    for name in LABELS:
        if name in counts.samples:
            table[name if name != "sex" else "stated_sex"] = counts.samples[name]
    columns = np.linspace(0, n_regions - 1, min(_SIGNATURE, n_regions)).astype(np.int64)
    return Measured(
        (),
        n_regions,
        np.zeros(0, dtype=np.int64),
        table,
        np.zeros((len(counts), 0), dtype=np.int64),
        np.stack([counts.methylated[:, columns], coverage[:, columns]], axis=1),
    )


def with_tissues(
    measured: Measured, atlas: Atlas, counts: RegionCounts, informative: Bool[np.ndarray, "T R"]
) -> Measured:
    """Add what an atlas tells of the same samples, whose ``counts`` are at its regions."""
    misfit, correlation, shift = _fit(atlas, counts)
    return replace(
        measured,
        tissues=atlas.tissues,
        n_informative=informative.sum(axis=1),
        table=measured.table.assign(misfit=misfit, correlation=correlation, shift=shift),
        observed=n_observed(counts.coverage, informative),
    )


def join(parts: Sequence[Measured]) -> Measured:
    """Return what was measured of parts with the same atlas as one."""
    first = parts[0]
    return Measured(
        first.tissues,
        first.n_regions,
        first.n_informative,
        pd.concat([p.table for p in parts]),
        np.concatenate([p.observed for p in parts]),
        np.concatenate([p.signature for p in parts]),
    )


def same_counts(
    a: Int[np.ndarray, "2 s"], others: Int[np.ndarray, "N 2 s"]
) -> Float[np.ndarray, " N"]:
    """Return in which share of the well covered regions a sample's counts are another's.

    0 where fewer than 50 regions are well covered in both, or all have the same coverage (as
    of arrays, whose coverage is stated, not measured).
    """
    deep = (a[1] >= _DEEP) & (others[:, 1] >= _DEEP)
    same = deep & (a == others).all(axis=1)
    n_deep = deep.sum(axis=1)
    usable = (n_deep >= 50) & bool(np.ptp(a[1]) > 0)
    return np.where(usable, same.sum(axis=1) / np.maximum(n_deep, 1), 0.0)


def _fit(atlas: Atlas, counts: RegionCounts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return misfit, correlation and shift of each sample with the best non-negative fit."""
    # Imported here, as it takes torch seconds, and each process that reads files would wait.
    from deconv.baselines.least_squares import NonNegativeLeastSquares

    n = counts.coverage.astype(np.float64)
    seen = n.any(axis=1)
    misfit, correlation, shift = np.full((3, len(n)), np.nan)
    if not seen.any():
        return misfit, correlation, shift
    part = counts.take(np.flatnonzero(seen))
    method = NonNegativeLeastSquares(atlas, weighted=True, min_overlap=0)
    fitted = method.predict(part).proportions @ atlas.mean.astype(np.float64)
    for row, expected in zip(np.flatnonzero(seen), fitted, strict=True):
        where = n[row] > 0
        mean, depth = expected[where], n[row][where]
        beta = counts.methylated[row][where] / depth
        variance = mean * (1 - mean) * (1 / depth + atlas.rho[where])
        misfit[row] = np.mean((beta - mean) ** 2 / variance)
        shift[row] = np.mean(beta - mean)
        if where.sum() > 2 and np.ptp(beta) > 0 and np.ptp(mean) > 0:
            correlation[row] = np.corrcoef(beta, mean)[0, 1]
    return misfit, correlation, shift
