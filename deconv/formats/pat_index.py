"""The reads of a ``.pat.gz`` near some regions, by the ``.csi`` index beside it.

The index is of tabix: by chromosome and the CpG index of a read's first CpG. A read that
begins before a region reaches into it if it is long enough, so each range is widened by
the longest read that is allowed for; a longer one that is met calls off the whole attempt.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pysam
from jaxtyping import Int

from deconv.errors import InputError
from deconv.formats.pat_lines import Lines, parse
from deconv.formats.text_blocks import refuse_cut_bgzip
from deconv.regions import RegionSet

_LONGEST = 1000
"""CpGs of a read; those of short reads have a few dozen, of nanopore reads some hundreds."""
_LARGEST_SHARE = 0.05  # of the genome; above, reading all is as quick
_CPGS_OF_GENOME = 28_000_000
_LINES_AT_ONCE = 100_000


class LongReadsError(Exception):
    """There are reads that are longer than the index can be searched for."""


def is_worth_it(path: Path, regions: RegionSet) -> bool:
    """Whether there is an index, not older than the file, and little of the file is needed."""
    index = _index(path)
    if not index.is_file() or index.stat().st_mtime < path.stat().st_mtime:
        return False
    first, after = _ranges(regions)
    return int((after - first).sum()) < _LARGEST_SHARE * _CPGS_OF_GENOME


def read_near(path: Path, regions: RegionSet) -> Iterator[Lines]:
    """Yield the lines near the regions, some others too, each once and in order.

    Raises
    ------
    LongReadsError
        If a read is so long that others like it may have been missed.
    InputError
        If the file or its index is damaged, or a line is malformed.
    """
    refuse_cut_bgzip(path)
    try:
        with pysam.TabixFile(str(path), index=str(_index(path))) as file:
            waiting: list[str] = []
            for chrom, begin, end in _places(file, *_ranges(regions)):
                waiting.extend(file.fetch(chrom, begin - 1, end - 1))  # 0-based there
                if len(waiting) >= _LINES_AT_ONCE:
                    yield _parsed(waiting, path)
                    waiting = []
            if waiting:
                yield _parsed(waiting, path)
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            "the file or its .csi index is damaged", where=path, got=error,
            expected="a file packed by bgzip, and its index",
        ) from error  # fmt: skip


def _index(path: Path) -> Path:
    return path.with_name(path.name + ".csi")


def _ranges(regions: RegionSet) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return where reads may begin that reach into regions: disjoint half-open ranges."""
    start_cpg, end_cpg = regions.cpg_ranges
    order = np.argsort(start_cpg, kind="stable")
    first = np.maximum(start_cpg[order] - _LONGEST, 1)
    after = np.maximum.accumulate(end_cpg[order])
    is_new = np.append(True, first[1:] > after[:-1])
    return first[is_new], after[np.append(np.flatnonzero(is_new)[1:] - 1, len(after) - 1)]


def _places(
    file: pysam.TabixFile, first: Int[np.ndarray, " n"], after: Int[np.ndarray, " n"]
) -> Iterator[tuple[str, int, int]]:
    """Yield the chromosomes and ranges in which the file may have what is asked for.

    A range is looked up on every chromosome that has such indices in this file, whatever
    the regions say: reads on another chromosome mean another genome build.
    """
    begins = {}
    for chrom in file.contigs:
        line = next(file.fetch(chrom), None)
        if line is not None:
            begins[chrom] = int(line.split("\t")[1])
    ends = [*list(begins.values())[1:], np.iinfo(np.int64).max]
    for begin, end in zip(first.tolist(), after.tolist(), strict=True):
        for (chrom, start), stop in zip(begins.items(), ends, strict=True):
            if start < end and stop >= begin:
                yield chrom, begin, end


def _parsed(lines: list[str], path: Path) -> Lines:
    found = parse(path, "\n".join([*lines, ""]).encode(), 0)
    if int((found.pattern_end - found.pattern_start).max()) > _LONGEST:
        raise LongReadsError
    return found
