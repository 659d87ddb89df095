"""Methylation counts of samples in regions: the one form that data take in this library.

A count pair is (methylated, coverage): k successes of n observations, see
`deconv.regions.Feature`. Coverage 0 means not observed; it never means unmethylated.

Shape letters: N = samples, R = regions, T = tissues.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Integer

from deconv.errors import InputError, MismatchError
from deconv.regions import RegionSet

MAX_COUNT = np.iinfo(np.int32).max
Row = tuple[Integer[np.ndarray, " R"], Integer[np.ndarray, " R"]]
"""Methylated counts and coverage of one sample."""


class Samples(ABC):
    """Counts that can be gone through sample by sample, in memory or in a file."""

    regions: RegionSet
    samples: pd.DataFrame
    proportions: pd.DataFrame | None
    notes: tuple[str, ...]

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Yield the counts of each sample."""

    @abstractmethod
    def take(self, rows: Sequence[int] | Int[np.ndarray, " n"]) -> "Samples":
        """Return the samples at these positions."""

    @abstractmethod
    def labelled(self, samples: pd.DataFrame) -> "Samples":
        """Return the same counts with another sample table."""

    @abstractmethod
    def load(self) -> "RegionCounts":
        """Return all samples in memory."""

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of everything here: regions, sample table, counts and proportions."""
        digest = start_hash(self.regions, self.samples, self.proportions)
        for methylated, coverage in self.rows():
            update_hash(digest, methylated, coverage)
        return digest.hexdigest()

    def require(self, *columns: str) -> None:
        """Check that the sample table has these columns, without gaps.

        Raises
        ------
        MismatchError
            If a column is missing or has a missing value.
        """
        for column in columns:
            if column not in self.samples:
                raise MismatchError(
                    f"the samples have no {column}",
                    got=", ".join(map(str, self.samples.columns)) or "no columns",
                )
            missing = self.samples.index[self.samples[column].isna()]
            if len(missing):
                raise MismatchError(f"{len(missing)} sample(s) have no {column}", got=missing[0])


@dataclass(frozen=True, eq=False)
class RegionCounts(Samples):
    """Counts with their region and sample tables.

    Parameters
    ----------
    methylated, coverage
        Integers with 0 <= methylated <= coverage.
    regions
        What the columns are.
    samples
        What the rows are: unique names as index; `tissue` and `donor` columns for pure
        samples.
    proportions
        True fraction of each tissue (columns) in each sample, where known.
    notes
        What a person should know of how they were read; no part of the content.

    Raises
    ------
    InputError
        If a shape, a name or a count breaks these rules.
    """

    methylated: np.ndarray  # [N, R]; checked here, not by its annotation
    coverage: np.ndarray
    regions: RegionSet
    samples: pd.DataFrame
    proportions: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check at the border, so that inner code need not."""
        expected = (len(self.samples), len(self.regions))
        for name in ("methylated", "coverage"):
            array = getattr(self, name)
            if not np.issubdtype(array.dtype, np.integer):
                raise InputError(f"{name} is not integer", got=array.dtype)
            if array.shape != expected:
                raise InputError(
                    f"{name} has another shape than samples x regions",
                    got=array.shape, expected=expected,
                )  # fmt: skip
        if not len(self.samples):
            raise InputError("there are no samples", expected="at least one")
        if not self.samples.index.is_unique:
            twice = self.samples.index[self.samples.index.duplicated()][0]
            raise InputError("a sample name occurs twice", got=twice)
        self._refuse(self.methylated < 0, "a methylated count is negative")
        self._refuse(self.methylated > self.coverage, "methylated exceeds coverage")
        if self.proportions is not None and not self.proportions.index.equals(self.samples.index):
            raise InputError("proportions are of other samples than the counts")

    def _refuse(self, bad: Bool[np.ndarray, "N R"], what: str) -> None:
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise InputError(
                f"{what} ({int(bad.sum())} time(s))",
                where=f"sample {self.samples.index[row]}, region {self.regions.names[column]}",
                got=f"{self.methylated[row, column]} of {self.coverage[row, column]}",
                expected="0 <= methylated <= coverage",
            )

    def rows(self) -> Iterator[Row]:
        """Yield the counts of each sample."""
        return zip(self.methylated, self.coverage, strict=True)

    def labelled(self, samples: pd.DataFrame) -> "RegionCounts":
        """Return the same counts with another sample table."""
        return replace(self, samples=samples)

    def load(self) -> "RegionCounts":
        """Return these counts: they are in memory."""
        return self

    @property
    def beta(self) -> Float[np.ndarray, "N R"]:
        """Methylated share of the observations; NaN where there are none."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.methylated / self.coverage, dtype=np.float32)

    def take(self, rows: Sequence[int] | Int[np.ndarray, " n"]) -> "RegionCounts":
        """Return the samples at these positions."""
        index = np.asarray(rows, dtype=np.int64)
        proportions = None if self.proportions is None else self.proportions.iloc[index]
        return replace(
            self,
            methylated=self.methylated[index],
            coverage=self.coverage[index],
            samples=self.samples.iloc[index],
            proportions=proportions,
        )

    def at_regions(
        self, regions: RegionSet, *, where: object = "counts", min_overlap: float = 1.0
    ) -> "RegionCounts":
        """Return the counts in another order of regions, matched by name.

        Regions that these counts lack become not observed; see `RegionSet.find_in` for
        ``where``, ``min_overlap`` and the errors.
        """
        if self.regions.is_same(regions):
            return self
        found = regions.find_in(self.regions, where=where, min_overlap=min_overlap)
        present = found >= 0
        return replace(
            self,
            methylated=np.where(present, self.methylated[:, found], 0),
            coverage=np.where(present, self.coverage[:, found], 0),
            regions=regions,
        )


def start_hash(
    regions: RegionSet, samples: pd.DataFrame, proportions: pd.DataFrame | None = None
) -> "hashlib._Hash":
    """Begin a content hash that `update_hash` completes row by row, for streaming."""
    digest = hashlib.sha256(regions.content_hash.encode())
    for table in (samples, proportions):
        if table is not None:
            ordered = table[sorted(table.columns)]
            digest.update(ordered.to_csv(sep="\t", lineterminator="\n").encode())
    return digest


def update_hash(
    digest: "hashlib._Hash",
    methylated: Integer[np.ndarray, " R"],
    coverage: Integer[np.ndarray, " R"],
) -> None:
    """Add one sample's counts, whatever integer type holds them."""
    digest.update(np.ascontiguousarray(methylated, dtype="<i4").tobytes())
    digest.update(np.ascontiguousarray(coverage, dtype="<i4").tobytes())
