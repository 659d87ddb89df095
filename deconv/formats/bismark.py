"""Bismark's coverage files.

Spec: ``.cov`` is tab-separated text without a header, plain or gzip, sorted. Columns
``chrom``, ``start``, ``end`` (both 1-based and inclusive: the same, or start + 1 where the
strands of a CpG are merged), ``% methylated``, ``n methylated``, ``n unmethylated``. Only
covered cytosines of CpGs are listed. The percentage is redundant and is compared with the
counts, to notice columns in another order. (The bedGraph beside it has no coverage and is
refused.)
Source: https://felixkrueger.github.io/Bismark/options/methylation_extraction/

The strand is not stated: a call counts in the region that contains its base, which is the
CpG's second on the reverse strand. `deconv.formats.cytosine_report` knows the strand.
"""

from pathlib import Path

import numpy as np

from deconv.counts import RegionCounts
from deconv.formats.cpg_calls import RegionCounter
from deconv.formats.fields import read_fields
from deconv.formats.format import Format, Head, ReadOptions, sample_name
from deconv.regions import RegionSet

COLUMNS = "chrom, start, end, % methylated, n methylated and n unmethylated, separated by tabs"
_POSITION = 10**10
_ROUNDING = 0.5 + 1e-6  # some tools that write this format round to whole percents


def read_bismark_cov(path: Path, regions: RegionSet) -> RegionCounts:
    """Add up the CpGs of a sample, which is named after its file.

    Raises
    ------
    InputError
        With file and line, if the file breaks the spec above.
    MismatchError
        If the file covers no region.
    """
    names = ("chrom", "start", "end", "% methylated", "n methylated", "n unmethylated")
    counter = RegionCounter(regions, path)
    for fields in read_fields(path, dict(enumerate(names)), len(names), expected=COLUMNS):
        start = fields.integers("start", at_most=_POSITION)
        width = fields.integers("end", at_most=_POSITION) - start
        fields.refuse(
            (start < 1) | (width < 0) | (width > 1),
            "start and end are no CpG", "both 1-based: the same, or end = start + 1",
        )  # fmt: skip
        percent = fields.decimals("% methylated", at_most=100)
        methylated = fields.integers("n methylated")
        coverage = methylated + fields.integers("n unmethylated")
        of_counts = 100 * methylated / np.maximum(coverage, 1)
        fields.refuse(
            np.abs(percent - of_counts) > _ROUNDING,
            "the percentage is not that of the counts", COLUMNS,
        )  # fmt: skip
        counter.add(fields, start, start - 1, methylated, coverage)
    return counter.counts(sample_name(path, ".bismark.cov", ".cov"))


def _looks_right(head: Head) -> bool:
    return len(head.first.split("\t")) == 6


def _read(path: Path, regions: RegionSet | None, options: ReadOptions) -> RegionCounts:
    assert regions is not None  # the format needs them
    return read_bismark_cov(path, regions)


FORMAT = Format(
    name="Bismark coverage",
    suffixes=(".cov",),
    content=f"lines of {COLUMNS}",
    looks_right=_looks_right,
    read=_read,
    needs="regions",
)
