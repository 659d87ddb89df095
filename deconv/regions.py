"""Region sets: the genomic intervals in which methylation is counted.

Coordinates are 0-based and half-open, as in BED. A set also says which genome build the
coordinates belong to and what is counted in a region (`Feature`), because two data
sets that differ in either must not be compared. It may know the CpGs of its regions by
their indices, which is what files that number the CpGs of a genome are cut with.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Int

from deconv.errors import InputError, MismatchError
from deconv.genomes import known_build, plain_chromosomes, refuse_other_build

Feature = Literal["cpg", "u_fragment"]
"""`cpg`: methylated CpG observations of all; `u_fragment`: unmethylated fragments of all, or
methylated ones where the region's direction is M."""

UNKNOWN_BUILD = "unknown"


@dataclass(frozen=True, eq=False)
class RegionSet:
    """Named intervals, in the order of the columns of the counts that use them.

    Attributes
    ----------
    start_cpg, end_cpg
        Index of the first CpG and of the one after the last, counted from 1 through the
        whole genome as wgbstools does; None where they are not known.
    direction
        "U" or "M": which fragments are the successes of each region; None means U.

    Raises
    ------
    InputError
        If the columns differ in length, an interval or a range of CpGs is empty or
        negative, an interval occurs twice, or a direction is another.
    """

    chrom: np.ndarray  # [R] each
    start: np.ndarray
    end: np.ndarray
    build: str = UNKNOWN_BUILD
    feature: Feature = "cpg"
    start_cpg: np.ndarray | None = None
    end_cpg: np.ndarray | None = None
    direction: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check the invariants that all users of a region set rely on."""
        sizes = [len(column) for column in self.columns().values()]
        if len(set(sizes)) > 1:
            raise InputError("chrom, start, end and the rest differ in length", got=sizes)
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
        seen: dict[str, int] = {}
        for i, name in enumerate(self._plain_names):
            first = seen.setdefault(name, i)
            if first < i:
                names = dict.fromkeys((str(self.names[first]), str(self.names[i])))
                raise InputError("a region occurs twice", got=" and ".join(names))
        if (self.start_cpg is None) != (self.end_cpg is None):
            raise InputError("CpG indices of one end only", expected="startCpG and endCpG")
        if self.start_cpg is not None and self.end_cpg is not None:
            bad = np.flatnonzero((self.start_cpg < 1) | (self.end_cpg <= self.start_cpg))
            if bad.size:
                raise InputError(
                    f"{bad.size} region(s) have no CpGs", where=self.names[bad[0]],
                    got=f"startCpG {self.start_cpg[bad[0]]}, endCpG {self.end_cpg[bad[0]]}",
                    expected="1 <= startCpG < endCpG",
                )  # fmt: skip
        if self.direction is not None:
            bad = np.flatnonzero(~np.isin(self.direction, ["U", "M"]))
            if bad.size:
                raise InputError(
                    "unknown direction", where=self.names[bad[0]],
                    got=self.direction[bad[0]], expected="U or M",
                )  # fmt: skip

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.start)

    @cached_property
    def names(self) -> np.ndarray:
        """`chrom:start-end` of each region."""
        rows = zip(self.chrom, self.start.tolist(), self.end.tolist(), strict=True)
        return np.array([f"{c}:{s}-{e}" for c, s, e in rows])

    @cached_property
    def _plain_names(self) -> list[str]:
        """Names that are the same for `chr1` and `1`."""
        chrom = plain_chromosomes(self.chrom)
        rows = zip(chrom, self.start.tolist(), self.end.tolist(), strict=True)
        return [f"{c}:{s}-{e}" for c, s, e in rows]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of build, feature, intervals in order, and what is known of their CpGs."""
        text = "\n".join([self.build, self.feature, *self.names])
        digest = hashlib.sha256(text.encode())
        for column in (self.start_cpg, self.end_cpg):
            if column is not None:
                digest.update(np.ascontiguousarray(column, dtype="<i8").tobytes())
        if not self.counts_only_u:
            digest.update("".join(self.directions).encode())
        return digest.hexdigest()

    @property
    def cpg_ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """`start_cpg` and `end_cpg`, which must be known.

        Raises
        ------
        MismatchError
            If they are not.
        """
        if self.start_cpg is None or self.end_cpg is None:
            raise MismatchError(
                "the regions have no CpG indices",
                expected="a region file with columns startCpG and endCpG",
            )
        return self.start_cpg, self.end_cpg

    @property
    def directions(self) -> np.ndarray:
        """Which fragments are the successes of each region, U where it is not said."""
        return np.full(len(self), "U") if self.direction is None else self.direction

    @property
    def counts_only_u(self) -> bool:
        """Whether no region counts methylated fragments."""
        return self.direction is None or bool(np.all(self.direction == "U"))

    def columns(self) -> dict[str, np.ndarray]:
        """Return what to write of each region, by the names that `from_columns` reads."""
        names = ("chrom", "start", "end", "start_cpg", "end_cpg", "direction")
        columns = {name: getattr(self, name) for name in names}
        return {name: column for name, column in columns.items() if column is not None}

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, Any] | pd.DataFrame, build: str, feature: Feature
    ) -> "RegionSet":
        """Return the set that `columns` was called on; array-likes will do."""
        optional = {n: np.asarray(columns[n]) for n in ("start_cpg", "end_cpg") if n in columns}
        for name, array in optional.items():
            if not np.issubdtype(array.dtype, np.integer):
                raise InputError(f"{name} is not integer", got=array.dtype)
            optional[name] = array.astype(np.int64)
        if "direction" in columns:
            optional["direction"] = np.asarray(columns["direction"], dtype=str)
        return cls(
            np.asarray(columns["chrom"], dtype=str),
            np.asarray(columns["start"]),
            np.asarray(columns["end"]),
            build,
            feature,
            **optional,
        )

    def is_same(self, other: "RegionSet") -> bool:
        """Whether these are the same regions in the same order; CpG indices may be unknown."""
        return (
            (self.build, self.feature) == (other.build, other.feature)
            and np.array_equal(self.names, other.names)
            and np.array_equal(self.directions, other.directions)
        )

    def take(self, columns: Int[np.ndarray, " R"]) -> "RegionSet":
        """Return the regions at these positions, in this order."""
        parts = {name: column[columns] for name, column in self.columns().items()}
        return RegionSet(**parts, build=self.build, feature=self.feature)

    def find_in(
        self, other: "RegionSet", *, where: object, min_overlap: float = 1.0
    ) -> Int[np.ndarray, " R"]:
        """Return the position of each of these regions in ``other``, -1 where it is absent.

        Chromosomes `chr1` and `1` are the same; `deconv.genomes.naming_note` says so. Regions
        of an unknown build are taken to be of that of the data, if they exist in it.

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
            If genome builds, features or directions differ, or too few regions match.
        """
        if self.build == UNKNOWN_BUILD:
            refuse_other_build(self.chrom, self.end, other.build, where=where)
        elif known_build(self.build) != known_build(other.build):
            raise MismatchError(
                "the genome build differs (state it with --build if the file does not; regions"
                " are not lifted over)",
                where=where, got=other.build, expected=self.build,
            )  # fmt: skip
        if self.feature != other.feature:
            raise MismatchError(
                "the counts mean something else",
                where=where,
                got=other.feature,
                expected=self.feature,
            )
        position = {name: i for i, name in enumerate(other._plain_names)}
        found = np.array([position.get(name, -1) for name in self._plain_names])
        other_way = (found >= 0) & (self.directions != other.directions[found])
        if other_way.any():
            raise MismatchError(
                f"the counts of {int(other_way.sum())} region(s) are of the other direction",
                where=where, got=other.directions[found[other_way][0]],
                expected=f"{self.directions[other_way][0]} at {self.names[other_way][0]}",
            )  # fmt: skip
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
