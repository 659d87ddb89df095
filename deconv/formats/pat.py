r"""Fragments of wgbstools' ``.pat.gz`` files, counted in regions.

Spec: bgzip-compressed, tab-separated text without a header, sorted by CpG index. Columns
``chrom``, ``CpG index`` (1-based, counted through the whole genome: that of the read's
first CpG), ``pattern`` (one letter a CpG: ``C`` methylated, ``T`` unmethylated, ``.``
unknown, ``H`` 5-hydroxymethylated) and ``count`` (reads alike, at least 1); more columns
may follow. Regions are half-open ranges of the same indices, so no genome is needed.
Source: https://github.com/nloyfer/wgbs_tools/blob/master/docs/pat_format.md

A read is trimmed to the region. With at least ``min_cpgs`` known CpGs left it is a
fragment: U (at most 25 % methylated), M (at least 75 %) or X (between), after Loyfer et
al. (2023), https://doi.org/10.1038/s41586-022-05580-6. ``H`` counts as methylated, as it
does after bisulfite treatment, by which reference atlases are made.

Shape letters: R = regions, L = lines in a part of the file, B = its bytes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int, Int32

from deconv.counts import MAX_COUNT, RegionCounts
from deconv.errors import InputError, MismatchError
from deconv.formats.pat_lines import Lines, read_lines
from deconv.regions import RegionSet

U, X, M = 0, 1, 2
"""Columns of `count_fragments`: unmethylated, mixed, methylated."""

_LETTERS = np.full(256, -1, dtype=np.int8)  # index into the running sums; -1 is no letter
_LETTERS[[ord("T"), ord("C"), ord("H"), ord(".")]] = 0, 1, 1, 2


@dataclass(frozen=True, eq=False)
class Markers:
    """Regions with what is needed to count fragments in them.

    Attributes
    ----------
    start_cpg, end_cpg
        1-based indices of the first CpG and of the one after the last.
    direction
        "U" or "M": which fragments are the successes of a region.

    Raises
    ------
    InputError
        If a range is empty or a direction is another.
    """

    regions: RegionSet
    start_cpg: Int[np.ndarray, " R"]
    end_cpg: Int[np.ndarray, " R"]
    direction: np.ndarray

    def __post_init__(self) -> None:
        """Check at the border."""
        bad = np.flatnonzero((self.start_cpg < 1) | (self.end_cpg <= self.start_cpg))
        if bad.size:
            raise InputError(
                f"{bad.size} region(s) have no CpGs", where=self.regions.names[bad[0]],
                got=f"startCpG {self.start_cpg[bad[0]]}, endCpG {self.end_cpg[bad[0]]}",
                expected="1 <= startCpG < endCpG",
            )  # fmt: skip
        bad = np.flatnonzero(~np.isin(self.direction, ["U", "M"]))
        if bad.size:
            raise InputError(
                "unknown direction", where=self.regions.names[bad[0]],
                got=self.direction[bad[0]], expected="U or M",
            )  # fmt: skip


def read_pat(
    path: Path,
    markers: Markers,
    *,
    min_cpgs: int = 4,
    u_at_most: float = 0.25,
    m_at_least: float = 0.75,
) -> RegionCounts:
    """Count the fragments of a sample, which is named after its file.

    Returns
    -------
    Counts of feature ``u_fragment``: coverage is all fragments, "methylated" (the successes
    k of n) those that the region's direction names.

    Raises
    ------
    InputError
        With file and line, if the file breaks the spec above.
    MismatchError
        If reads at a region's CpG indices lie on another chromosome than the region.
    """
    counts = count_fragments(
        path, markers, min_cpgs=min_cpgs, u_at_most=u_at_most, m_at_least=m_at_least
    )
    successes = np.where(markers.direction == "U", counts[:, U], counts[:, M])
    return RegionCounts(
        successes[None].astype(np.int32),
        counts.sum(axis=1)[None].astype(np.int32),
        markers.regions,
        pd.DataFrame(index=pd.Index([path.name.removesuffix(".pat.gz")], name="sample")),
    )


def count_fragments(
    path: Path,
    markers: Markers,
    *,
    min_cpgs: int = 4,
    u_at_most: float = 0.25,
    m_at_least: float = 0.75,
) -> Int[np.ndarray, "R 3"]:
    """Return the numbers of U, X and M fragments; parameters and errors as of `read_pat`."""
    if min_cpgs < 1 or not 0 <= u_at_most < m_at_least <= 1:
        raise InputError(
            "limits of fragments do not fit",
            got=f"min_cpgs {min_cpgs}, u_at_most {u_at_most}, m_at_least {m_at_least}",
            expected="min_cpgs >= 1 and 0 <= u_at_most < m_at_least <= 1",
        )
    counts = np.zeros(3 * len(markers.regions), dtype=np.int64)
    find = _RegionFinder(markers)
    for lines in read_lines(path):
        unmethylated, methylated = _running_sums(lines, path)
        line, region = find(lines)
        _check_chromosomes(lines, line, markers, region, path)
        # Where the trimmed pattern begins and ends in the text: a CpG is a letter.
        origin = lines.pattern_start[line] - lines.index[line]
        begin = origin + np.maximum(markers.start_cpg[region], lines.index[line])
        end = np.minimum(origin + markers.end_cpg[region], lines.pattern_end[line])
        n_methylated = methylated[end] - methylated[begin]
        n_known = n_methylated + unmethylated[end] - unmethylated[begin]
        kind = np.full(len(line), X)
        kind[n_methylated <= u_at_most * n_known] = U
        kind[n_methylated >= m_at_least * n_known] = M
        long = n_known >= min_cpgs
        np.add.at(counts, 3 * region[long] + kind[long], lines.count[line[long]])
    if counts.reshape(-1, 3).sum(axis=1).max() > MAX_COUNT:
        raise InputError("too many fragments in a region", where=path, expected=MAX_COUNT)
    return counts.reshape(-1, 3)


class _RegionFinder:
    """Finds the regions that reads overlap, for many reads at once."""

    def __init__(self, markers: Markers) -> None:
        self._order = np.argsort(markers.start_cpg, kind="stable")
        self._start = markers.start_cpg[self._order]
        self._end = markers.end_cpg[self._order]
        # Of regions sorted by start, those that a read overlaps are neighbours; where regions
        # overlap each other, the running maximum also lets in some that the read does not.
        self._reach = np.maximum.accumulate(self._end)

    def __call__(
        self, lines: Lines
    ) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
        """Return all pairs of a line and a region that overlap."""
        after = lines.index + (lines.pattern_end - lines.pattern_start)
        low = np.searchsorted(self._reach, lines.index, side="right")
        number = (np.searchsorted(self._start, after) - low).clip(0)
        line = np.repeat(np.arange(len(low)), number)
        place = np.arange(len(line)) - (np.cumsum(number) - number - low)[line]
        overlap = self._end[place] > lines.index[line]
        return line[overlap], self._order[place[overlap]]


def _running_sums(
    lines: Lines, path: Path
) -> tuple[Int32[np.ndarray, " n"], Int32[np.ndarray, " n"]]:
    """Return how many T, and how many C or H, come before each byte of the text."""
    letter = _LETTERS[lines.text]
    sums = np.zeros((3, len(letter) + 1), dtype=np.int32)
    for out, kind in zip(sums, (letter == 0, letter == 1, letter >= 0), strict=True):
        np.cumsum(kind, out=out[1:])
    n_valid = sums[2][lines.pattern_end] - sums[2][lines.pattern_start]
    lines.refuse(
        n_valid < lines.pattern_end - lines.pattern_start,
        "unknown letter in a pattern", path, "only C, T, H and .",
    )  # fmt: skip
    return sums[0], sums[1]


def _check_chromosomes(
    lines: Lines,
    line: Int[np.ndarray, " pairs"],
    markers: Markers,
    region: Int[np.ndarray, " pairs"],
    path: Path,
) -> None:
    """Refuse reads whose CpG index says another chromosome than they do themselves."""
    got = lines.names[lines.chrom[line]]
    bad = np.flatnonzero(got != markers.regions.chrom[region])
    if bad.size:
        first = bad[0]
        raise MismatchError(
            f"the CpG indices are of another genome build than {markers.regions.build}",
            where=f"{path}, line {lines.first + line[first]}",
            got=f"{got[first]} at CpG {lines.index[line[first]]}",
            expected=f"the chromosome of region {markers.regions.names[region[first]]}",
        )
