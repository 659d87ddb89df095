r"""Methylation array tables, as meth_atlas uses them: beta values of probes.

Spec: comma-separated text with a header, plain or gzip. The first column holds probe IDs,
``cg`` and 8 digits, on EPICv2 arrays with a suffix such as ``_TC11``; then a column per
cell type (a reference) or sample: beta values, 0 to 1, empty or ``NA`` where not observed.
Probes that occur twice, also after the suffix is taken off, are averaged. Probes of other
kinds (``rs`` SNPs, ``ch`` non-CpG sites, ``nv`` and ``ctl`` controls) are left out.
Source: https://github.com/nloyfer/meth_atlas, Moss et al. (2018),
https://doi.org/10.1038/s41467-018-07466-6

Probes have no coordinates here. Probe cg00000029 becomes the region chrom "probe", start
29, end 30 of the genome build "array", so that data of arrays match each other by name and
no other data. Arrays have no coverage either: a stated one makes counts of beta values.

Shape letters: P = probes.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from deconv.atlas import Atlas
from deconv.counts import MAX_COUNT, RegionCounts
from deconv.errors import InputError, MismatchError, from_file
from deconv.files import require_file
from deconv.formats.columns import fractions
from deconv.formats.format import PSEUDO_COVERAGE, Format, Head, ReadOptions
from deconv.formats.tables import read_text
from deconv.reference import Means
from deconv.regions import UNKNOWN_BUILD, RegionSet

ARRAY_BUILD = "array"

_CPG_PROBE = r"^cg(\d{8})(?:_[TB][CO]\d+)?$"
_OTHER_PROBE = r"^(?:rs\d|ch\.|nv[-_]|ctl)"


def read_array_atlas(path: Path) -> Atlas:
    """Read a reference of one column per cell type; see `read_array_means`.

    A value that is missing becomes the mean of the other cell types at that probe;
    dispersion is assumed, see `deconv.atlas.atlas_from_means`.
    """
    return read_array_means(path).atlas


def read_array_means(path: Path) -> Means:
    """Read the mean beta values of one column per cell type.

    Raises
    ------
    InputError
        With file, line and column, if the table breaks the spec above.
    """
    beta = _read_beta(path)
    with from_file(path):
        return Means(
            tuple(map(str, beta.columns)),
            _probe_regions(beta.index),
            np.ascontiguousarray(beta.to_numpy().T),
        )


def read_array_counts(path: Path, *, coverage: int = PSEUDO_COVERAGE) -> RegionCounts:
    """Read samples, one per column.

    Parameters
    ----------
    coverage
        Stated pseudo-coverage: an observed beta value becomes ``round(beta * coverage)``
        methylated of ``coverage``; one not observed has coverage 0.

    Raises
    ------
    InputError
        As of `read_array_atlas`, or if the coverage is not positive.
    """
    if not 1 <= coverage <= MAX_COUNT:
        raise InputError("pseudo-coverage must be positive", where=path, got=coverage)
    beta = _read_beta(path)
    values = beta.to_numpy().T
    observed = np.isfinite(values)
    return RegionCounts(
        np.rint(np.where(observed, values, 0) * coverage).astype(np.int32),
        np.where(observed, coverage, 0).astype(np.int32),
        _probe_regions(beta.index),
        pd.DataFrame(index=pd.Index([str(c) for c in beta.columns], name="sample")),
        notes=(f"beta values are taken for {coverage} observations each",),
    )


def _read_beta(path: Path) -> pd.DataFrame:
    """Return beta values with a row per probe number, in order of first occurrence."""
    require_file(path)
    table = read_text(path, ",")
    if len(table.columns) < 2 or table.empty:
        raise InputError(
            "no beta values", where=path,
            got=f"{len(table)} rows of columns {', '.join(table.columns[:3])}",
            expected="probe IDs, then a column per cell type or sample",
        )  # fmt: skip
    probes = table.iloc[:, 0].fillna("").str.strip()
    number = probes.str.extract(_CPG_PROBE, expand=False)
    unknown = np.flatnonzero(number.isna() & ~probes.str.match(_OTHER_PROBE))
    if unknown.size:
        raise InputError(
            f"{unknown.size} probe(s) have no known ID", where=f"{path}, line {unknown[0] + 2}",
            got=repr(probes.iloc[unknown[0]]), expected="an ID such as cg00000029",
        )  # fmt: skip
    beta = pd.DataFrame(fractions(table.iloc[:, 1:], path), columns=table.columns[1:])
    is_cpg = number.notna()
    if not is_cpg.any():
        raise InputError("no CpG probes", where=path, expected="IDs such as cg00000029")
    numbers = number[is_cpg].astype(np.int64)
    return beta[is_cpg].groupby(numbers, sort=False).mean()


def _probe_regions(number: pd.Index) -> RegionSet:
    start = number.to_numpy(dtype=np.int64)
    return RegionSet(np.full(len(start), "probe"), start, start + 1, ARRAY_BUILD)


def _looks_right(head: Head) -> bool:
    probe = head.lines[1].split(",")[0].strip('" ') if len(head.lines) > 1 else ""
    return bool(re.match(f"{_CPG_PROBE}|{_OTHER_PROBE}", probe))


def _read(path: Path, regions: RegionSet | None, options: ReadOptions) -> RegionCounts:
    if options.build not in (UNKNOWN_BUILD, ARRAY_BUILD):
        raise MismatchError(
            "array probes have no coordinates of a genome build, and match arrays only",
            where=path, got=ARRAY_BUILD, expected=options.build,
        )  # fmt: skip
    return read_array_counts(path, coverage=options.pseudo_coverage or PSEUDO_COVERAGE)


FORMAT = Format(
    name="array beta values",
    suffixes=(".csv",),
    content="a header, then probe IDs such as cg00000029 and beta values, separated by commas",
    looks_right=_looks_right,
    read=_read,
)
