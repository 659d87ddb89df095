"""Counts of single CpGs, added up in the regions that contain them.

Shape letters: L = calls, R = regions.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Int64

from deconv.counts import MAX_COUNT, RegionCounts
from deconv.errors import InputError, MismatchError
from deconv.formats.fields import Fields
from deconv.genomes import (
    naming_note,
    plain_chromosome,
    plain_chromosomes,
    refuse_other_build,
)
from deconv.regions import RegionSet

_SORTED = "each site once, sorted by chromosome and position"


class RegionCounter:
    """Adds up calls that come sorted by chromosome and position, as all tools write them.

    The borders of a chromosome's regions cut it into segments; a call belongs to one, and
    a region is the sum of its segments. So regions may overlap and be in any order.

    Parameters
    ----------
    regions
        Chromosomes match with or without ``chr``, and M is MT; a note says so.
    path
        The file, for errors.
    """

    def __init__(self, regions: RegionSet, path: Path) -> None:
        self._regions, self._path = regions, path
        self._columns: dict[str, Int64[np.ndarray, " r"]] = {}
        self._borders: dict[str, Int64[np.ndarray, " b"]] = {}
        self._sums: dict[str, Int64[np.ndarray, "2 b"]] = {}
        plain = plain_chromosomes(regions.chrom)
        for name in np.unique(plain).tolist():
            columns = np.flatnonzero(plain == name)
            borders = np.unique(np.concatenate([regions.start[columns], regions.end[columns]]))
            self._columns[name], self._borders[name] = columns, borders
            self._sums[name] = np.zeros((2, len(borders) + 1), np.int64)
        self._seen: dict[str, str] = {}  # as the file has the name, by the plain one
        self._furthest: list[int] = []  # position on each of them
        self._last, self._last_site = "", -1

    def add(
        self,
        fields: Fields,
        site: Int[np.ndarray, " L"],
        position: Int[np.ndarray, " L"],
        methylated: Int[np.ndarray, " L"],
        coverage: Int[np.ndarray, " L"],
        *,
        counted: Bool[np.ndarray, " L"] | None = None,
    ) -> None:
        """Add the calls of consecutive lines.

        Parameters
        ----------
        fields
            The lines, with a column ``chrom``.
        site
            Place in the file's own terms, which increases from call to call.
        position
            0-based, of the C of the CpG on the forward strand where the strand is known.
        counted
            Which lines to add; by default all.

        Raises
        ------
        InputError
            If the calls are not sorted, or there are two of a site.
        """
        for chrom, lines in fields.runs("chrom"):
            chosen = np.arange(lines.start, lines.stop)
            if counted is not None:
                chosen = chosen[counted[lines]]
            if not len(chosen):
                continue
            name = plain_chromosome(chrom)
            if chrom != self._last:
                if name in self._seen:
                    fields.refuse_row(int(chosen[0]), f"not sorted: {chrom} comes again", _SORTED)
                self._seen[name] = self._last = chrom
                self._last_site = -1
                self._furthest.append(0)
            step = np.diff(site[chosen], prepend=self._last_site)
            if step.min() <= 0:
                back = int(np.argmax(step <= 0))
                what = "not sorted by position" if step[back] else "a site comes twice"
                fields.refuse_row(int(chosen[back]), what, _SORTED)
            self._last_site = int(site[chosen[-1]])
            self._furthest[-1] = int(position[chosen[-1]])
            if name in self._borders:
                segment = np.searchsorted(self._borders[name], position[chosen], side="right")
                np.add.at(self._sums[name][0], segment, methylated[chosen])
                np.add.at(self._sums[name][1], segment, coverage[chosen])

    def counts(self, sample: str, **about: float) -> RegionCounts:
        """Return what was added, as one sample with what else is known about it.

        Raises
        ------
        MismatchError
            If nothing lies in any region, or something outside the chromosomes of the build.
        InputError
            If a count is too large for the data model.
        """
        refuse_other_build(
            np.array(list(self._seen.values()), dtype=str),
            np.array(self._furthest, dtype=np.int64) + 1,
            self._regions.build,
            where=self._path,
        )
        totals = np.zeros((2, len(self._regions)), np.int64)
        for name, columns in self._columns.items():
            # The sum of all segments before each border; the last segment is after the last.
            before = np.cumsum(self._sums[name], axis=1)
            low, high = (
                np.searchsorted(self._borders[name], side[columns])
                for side in (self._regions.start, self._regions.end)
            )
            totals[:, columns] = before[:, high] - before[:, low]
        methylated, coverage = totals
        if not coverage.any():
            seen = ", ".join(list(self._seen.values())[:5]) or "none"
            raise MismatchError(
                "no region is covered", where=self._path, got=f"calls on {seen}",
                expected=f"calls in regions such as {self._regions.names[0]} of genome build "
                f"{self._regions.build}",
            )  # fmt: skip
        if coverage.max() > MAX_COUNT:
            raise InputError("a count is too large", where=self._path, got=coverage.max())
        return RegionCounts(
            methylated[None].astype(np.int32), coverage[None].astype(np.int32),
            self._regions, pd.DataFrame(about, index=pd.Index([sample], name="sample")),
            notes=naming_note(self._seen.values(), self._regions.chrom.tolist()),
        )  # fmt: skip
