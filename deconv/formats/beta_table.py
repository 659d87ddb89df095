"""Tables of mean methylation in regions, as wgbstools' ``beta_to_table`` writes them.

Spec: tab-separated text with a header, plain or gzip. Columns ``chr``, ``start``, ``end``
(0-based half-open), ``startCpG``, ``endCpG`` (1-based half-open), then a column per sample
or group of samples: mean methylation, 0 to 1, or ``NA`` where coverage is too low.
Source: https://github.com/nloyfer/wgbs_tools/blob/master/betas_to_table.py

The table has no coverage: a stated one makes counts of means.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from deconv.counts import RegionCounts
from deconv.errors import InputError, from_file
from deconv.files import require_file
from deconv.formats.builds import build_or_fitting, refuse_other_indices
from deconv.formats.columns import fractions
from deconv.formats.format import Format, Head, ReadOptions
from deconv.formats.region_file import region_columns
from deconv.formats.tables import read_text
from deconv.genomes import refuse_other_build
from deconv.regions import RegionSet

_COLUMNS = ["chr", "start", "end", "startcpg", "endcpg"]


def read_beta_table(path: Path, options: ReadOptions) -> RegionCounts:
    """Read samples, one per column.

    A mean becomes ``round(mean * pseudo_coverage)`` methylated of ``pseudo_coverage``
    observations; where there is none, coverage is 0.

    Raises
    ------
    InputError
        With file, line and column, if the table breaks the spec above, or if no
        pseudo-coverage is stated.
    MismatchError
        If coordinates or CpG indices do not exist in the stated build.
    """
    require_file(path)
    coverage = options.pseudo_coverage
    if coverage is None:
        raise InputError(
            "means without coverage", where=path,
            expected="a stated pseudo-coverage, for example --pseudo-coverage 30",
        )  # fmt: skip
    table = read_text(path)
    names = [str(c) for c in table.columns[len(_COLUMNS) :]]
    if [c.lower() for c in table.columns[: len(_COLUMNS)]] != _COLUMNS or not names:
        raise InputError(
            "wrong columns", where=f"{path}, header", got=", ".join(table.columns[:6]),
            expected="chr, start, end, startCpG, endCpG, then a column per sample",
        )  # fmt: skip
    if table.empty:
        raise InputError("the table has no rows", where=path)
    mean = fractions(table[names], path).T
    ours = ["chrom", "start", "end", "start_cpg", "end_cpg"]
    columns = region_columns(table.iloc[:, : len(ours)].set_axis(ours, axis=1), path)
    build, inferred = build_or_fitting(options.build, columns["chrom"], columns["end"])
    refuse_other_build(columns["chrom"], columns["end"], build, where=path)
    observed = np.isfinite(mean)
    with from_file(path):
        regions = RegionSet.from_columns(columns, build, "cpg")
        refuse_other_indices(regions, where=path)
        return RegionCounts(
            np.rint(np.where(observed, mean, 0) * coverage).astype(np.int32),
            np.where(observed, coverage, 0).astype(np.int32),
            regions,
            pd.DataFrame(index=pd.Index(names, name="sample")),
            notes=(f"means without coverage are taken as {coverage} observations", *inferred),
        )


def _looks_right(head: Head) -> bool:
    columns = [c.strip().lower() for c in head.first.split("\t")]
    # A UXM atlas begins alike, but holds fractions of fragments, not of CpGs.
    return columns[:5] == _COLUMNS and len(columns) > 5 and columns[5:8][-1:] != ["direction"]


FORMAT = Format(
    name="beta_to_table",
    suffixes=(".tsv", ".txt"),
    content="a header of chr, start, end, startCpG, endCpG, then a column of means per sample",
    looks_right=_looks_right,
    read=lambda path, regions, options: read_beta_table(path, options),
)
