"""Region sets: the genomic intervals in which methylation is counted.

Coordinates are 0-based and half-open, as in BED. A set also says which genome build the
coordinates belong to and what is counted in a region (`Feature`), because two data
sets that differ in either must not be compared.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int

from deconv.errors import InputError, MismatchError

Feature = Literal["cpg", "u_fragment"]
"""`cpg`: methylated CpG observations of all; `u_fragment`: unmethylated fragments of all."""

UNKNOWN_BUILD = "unknown"


@dataclass(frozen=True, eq=False)
class RegionSet:
    """Named intervals, in the order of the columns of the counts that use them.

    Raises
    ------
    InputError
        If the columns differ in length, an interval is empty or negative, or one
        occurs twice.
    """

    chrom: np.ndarray  # [R] each
    start: np.ndarray
    end: np.ndarray
    build: str = UNKNOWN_BUILD
    feature: Feature = "cpg"

    def __post_init__(self) -> None:
        """Check the invariants that all users of a region set rely on."""
        sizes = (len(self.chrom), len(self.start), len(self.end))
        if len(set(sizes)) > 1:
            raise InputError("chrom, start and end differ in length", got=sizes)
        if not sizes[0]:
            raise InputError("a region set is empty", expected="at least one region")
        if self.feature not in get_args(Feature):
            raise InputError(
                "unknown feature", got=repr(self.feature), expected=" or ".join(get_args(Feature))
            )
        bad = np.flatnonzero((self.start < 0) | (self.end <= self.start))
        if bad.size:
            raise InputError(
                f"{bad.size} region(s) are not intervals", got=self.names[bad[0]],
                expected="0 <= start < end",
            )  # fmt: skip
        names, n_uses = np.unique(self.names, return_counts=True)
        if len(names) < len(self):
            raise InputError("a region occurs twice", got=names[n_uses > 1][0])

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.start)

    @cached_property
    def names(self) -> np.ndarray:
        """`chrom:start-end` of each region."""
        rows = zip(self.chrom, self.start.tolist(), self.end.tolist(), strict=True)
        return np.array([f"{c}:{s}-{e}" for c, s, e in rows])

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of build, feature and intervals in order."""
        text = "\n".join([self.build, self.feature, *self.names])
        return hashlib.sha256(text.encode()).hexdigest()

    def take(self, columns: Int[np.ndarray, " R"]) -> "RegionSet":
        """Return the regions at these positions, in this order."""
        return RegionSet(
            self.chrom[columns], self.start[columns], self.end[columns], self.build, self.feature
        )

    def find_in(
        self, other: "RegionSet", *, where: object, min_overlap: float = 1.0
    ) -> Int[np.ndarray, " R"]:
        """Return the position of each of these regions in ``other``, -1 where it is absent.

        Parameters
        ----------
        other
            The region set of the data.
        where
            What the data are, for the error message.
        min_overlap
            Smallest share of these regions that ``other`` must have.

        Raises
        ------
        MismatchError
            If builds or features differ, or too few regions match.
        """
        if self.build != other.build:
            raise MismatchError(
                "the genome build differs (state it with --build if the file does not)",
                where=where, got=other.build, expected=self.build,
            )  # fmt: skip
        if self.feature != other.feature:
            raise MismatchError(
                "the counts mean something else",
                where=where,
                got=other.feature,
                expected=self.feature,
            )
        position = {name: i for i, name in enumerate(other.names)}
        found = np.array([position.get(name, -1) for name in self.names])
        n_found = int((found >= 0).sum())
        if n_found == 0 or n_found < min_overlap * len(self):
            raise MismatchError(
                f"{n_found} of the {len(self)} regions needed are in the data",
                where=where,
                got=f"{len(other)} regions such as {other.names[0]}",
                expected=f"at least {max(min_overlap, 1 / len(self)):.0%} of regions such as "
                f"{self.names[0]}",
            )
        return found
