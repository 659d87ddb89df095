r"""wgbstools' ``.pat.gz`` files: CpG observations or fragments, counted in regions.

Spec: tab-separated text without a header, packed by bgzip (gzip and plain ``.pat`` will do),
sorted by CpG index. Columns ``chrom``, ``CpG index`` (1-based, counted through the whole
genome: that of the read's first CpG), ``pattern`` (one letter a CpG: ``C`` methylated, ``T``
unmethylated, ``.`` unknown, ``H`` 5-hydroxymethylated) and ``count`` (reads alike, at least
1); more columns may follow. Regions are half-open ranges of the same indices, so no genome
is needed.
Source: https://github.com/nloyfer/wgbs_tools/blob/master/docs/pat_format.md

A read is trimmed to the region. Every known CpG left is an observation. With at least
``min_cpgs`` of them it is a fragment: U (at most 25 % methylated), M (at least 75 %) or X
(between), after Loyfer et al. (2023), https://doi.org/10.1038/s41586-022-05580-6. ``H``
counts as methylated, as it does after bisulfite treatment, by which reference atlases are
made.

Shape letters: R = regions, L = lines in a part of the file, B = its bytes.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Int32

from deconv.counts import MAX_COUNT, RegionCounts
from deconv.errors import InputError, MismatchError
from deconv.formats.format import Format, Head, ReadOptions, regions_of, sample_name
from deconv.formats.pat_index import LongReadsError, is_worth_it, read_near
from deconv.formats.pat_lines import Lines, read_lines
from deconv.genomes import naming_note, plain_chromosomes
from deconv.regions import RegionSet

U, X, M = 0, 1, 2
"""Columns of `count_fragments`: unmethylated, mixed, methylated."""

_LETTERS = np.full(256, -1, dtype=np.int8)  # index into the running sums; -1 is no letter
_LETTERS[[ord("T"), ord("C"), ord("H"), ord(".")]] = 0, 1, 1, 2
_DEFAULT = ReadOptions()


class _Pairs(NamedTuple):
    """Pairs of a line and a region that overlap, of a part of the file."""

    region: np.ndarray
    n_methylated: np.ndarray
    n_known: np.ndarray
    n_alike: np.ndarray


def read_pat(path: Path, regions: RegionSet, options: ReadOptions = _DEFAULT) -> RegionCounts:
    """Count a sample, which is named after its file.

    Where a ``.csi`` index is beside the file and the regions are few, only what lies near
    them is read.

    Parameters
    ----------
    regions
        With CpG indices. Their feature says what is counted: of ``cpg``, the methylated of
        all observations of CpGs; of ``u_fragment``, the fragments that the region's
        direction names, of all fragments.
    options
        Of which the limits of fragments are used.

    Raises
    ------
    InputError
        With file and line, if the file breaks the spec above.
    MismatchError
        If reads at a region's CpG indices lie on another chromosome than the region.
    """
    if regions.feature == "cpg":
        counts, notes = _tally(path, regions, lambda pairs: _sum_cpgs(pairs, len(regions)))
        successes, total = counts.T
    else:
        counts, notes = _tally(
            path, regions, lambda pairs: _sum_fragments(pairs, len(regions), options)
        )
        successes = np.where(regions.directions == "U", counts[:, U], counts[:, M])
        total = counts.sum(axis=1)
    if total.max() > MAX_COUNT:
        raise InputError("too many reads in a region", where=path, expected=MAX_COUNT)
    return RegionCounts(
        successes[None].astype(np.int32),
        total[None].astype(np.int32),
        regions,
        pd.DataFrame(index=pd.Index([sample_name(path, ".pat")], name="sample")),
        notes=notes,
    )


def count_fragments(
    path: Path, regions: RegionSet, options: ReadOptions = _DEFAULT
) -> Int[np.ndarray, "R 3"]:
    """Return the numbers of U, X and M fragments; see `read_pat`."""
    return _tally(path, regions, lambda pairs: _sum_fragments(pairs, len(regions), options))[0]


def _sum_cpgs(pairs: Iterable[_Pairs], n_regions: int) -> Int[np.ndarray, "R 2"]:
    counts = np.zeros((n_regions, 2), dtype=np.int64)
    for part in pairs:
        np.add.at(counts[:, 0], part.region, part.n_methylated * part.n_alike)
        np.add.at(counts[:, 1], part.region, part.n_known * part.n_alike)
    return counts


def _sum_fragments(
    pairs: Iterable[_Pairs], n_regions: int, options: ReadOptions
) -> Int[np.ndarray, "R 3"]:
    counts = np.zeros(3 * n_regions, dtype=np.int64)
    for part in pairs:
        kind = np.full(len(part.region), X)
        kind[part.n_methylated <= options.u_at_most * part.n_known] = U
        kind[part.n_methylated >= options.m_at_least * part.n_known] = M
        long = part.n_known >= options.min_cpgs
        np.add.at(counts, 3 * part.region[long] + kind[long], part.n_alike[long])
    return counts.reshape(-1, 3)


def _tally(
    path: Path, regions: RegionSet, add_up: Callable[[Iterable[_Pairs]], np.ndarray]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return what ``add_up`` makes of all pairs of a read and a region, and notes."""
    names: dict[str, None] = {}
    if is_worth_it(path, regions):
        try:
            counts = add_up(_pairs(read_near(path, regions), regions, names))
            return counts, naming_note(names, regions.chrom.tolist())
        except LongReadsError:
            names.clear()
    counts = add_up(_pairs(read_lines(path), regions, names))
    return counts, naming_note(names, regions.chrom.tolist())


def _pairs(parts: Iterable[Lines], regions: RegionSet, names: dict[str, None]) -> Iterator[_Pairs]:
    start_cpg, end_cpg = regions.cpg_ranges
    plain = plain_chromosomes(regions.chrom)
    find = _RegionFinder(start_cpg, end_cpg)
    for lines in parts:
        names.update(dict.fromkeys(lines.names.tolist()))
        unmethylated, methylated = _running_sums(lines)
        line, region = find(lines)
        got = plain_chromosomes(lines.names)[lines.chrom[line]]
        _refuse_other_chromosome(got != plain[region], lines, line, regions, region)
        # Where the trimmed pattern begins and ends in the text: a CpG is a letter.
        origin = lines.pattern_start[line] - lines.index[line]
        begin = origin + np.maximum(start_cpg[region], lines.index[line])
        end = np.minimum(origin + end_cpg[region], lines.pattern_end[line])
        n_methylated = methylated[end] - methylated[begin]
        n_known = n_methylated + unmethylated[end] - unmethylated[begin]
        yield _Pairs(region, n_methylated, n_known, lines.count[line])


class _RegionFinder:
    """Finds the regions that reads overlap, for many reads at once."""

    def __init__(self, start_cpg: Int[np.ndarray, " R"], end_cpg: Int[np.ndarray, " R"]) -> None:
        self._order = np.argsort(start_cpg, kind="stable")
        self._start = start_cpg[self._order]
        self._end = end_cpg[self._order]
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


def _running_sums(lines: Lines) -> tuple[Int32[np.ndarray, " n"], Int32[np.ndarray, " n"]]:
    """Return how many T, and how many C or H, come before each byte of the text."""
    letter = _LETTERS[lines.fields.text]
    sums = np.zeros((3, len(letter) + 1), dtype=np.int32)
    for out, kind in zip(sums, (letter == 0, letter == 1, letter >= 0), strict=True):
        np.cumsum(kind, out=out[1:])
    n_valid = sums[2][lines.pattern_end] - sums[2][lines.pattern_start]
    lines.fields.refuse(
        n_valid < lines.pattern_end - lines.pattern_start,
        "unknown letter in a pattern", "only C, T, H and .",
    )  # fmt: skip
    return sums[0], sums[1]


def _refuse_other_chromosome(
    bad: Bool[np.ndarray, " pairs"],
    lines: Lines,
    line: Int[np.ndarray, " pairs"],
    regions: RegionSet,
    region: Int[np.ndarray, " pairs"],
) -> None:
    """Refuse reads whose CpG index says another chromosome than they do themselves."""
    if bad.any():
        pair = int(np.argmax(bad))
        at = int(line[pair])
        raise MismatchError(
            f"the CpG indices are of another genome build than {regions.build}",
            where=lines.fields.place(at),
            got=f"{lines.names[lines.chrom[at]]} at CpG {lines.index[at]}",
            expected=f"the chromosome of region {regions.names[region[pair]]}",
        )


def _looks_right(head: Head) -> bool:
    fields = head.first.split("\t")
    return len(fields) > 3 and fields[1].isdigit() and not fields[2].strip("CTH.")


FORMAT = Format(
    name="pat",
    suffixes=(".pat",),
    content="chrom, CpG index, pattern of C, T, H and ., count; no header",
    looks_right=_looks_right,
    read=lambda path, regions, options: read_pat(path, regions_of(regions), options),
    needs="cpgs",
    features=("cpg", "u_fragment"),
)
