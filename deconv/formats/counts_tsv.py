r"""Counts tables, as MetDecode and CelFiE use them.

Spec: tab-separated text with a header, plain or gzip. Columns ``chrom``, ``start``, ``end``
(0-based half-open; any case), then for each sample X a pair ``X_METH`` and ``X_DEPTH``:
methylated and all CpG observations, as non-negative integers with X_METH <= X_DEPTH.
Source: https://github.com/JorisVermeeschLab/MetDecode
"""

from pathlib import Path

import numpy as np
import pandas as pd

from deconv.counts import RegionCounts, Samples
from deconv.errors import DeconvError, InputError
from deconv.files import require_file
from deconv.formats.builds import build_or_fitting
from deconv.formats.format import Format, Head, ReadOptions
from deconv.formats.tables import integers, read_text
from deconv.genomes import refuse_other_build
from deconv.regions import UNKNOWN_BUILD, RegionSet

_METH, _DEPTH = "_METH", "_DEPTH"


def read_counts_tsv(path: Path, *, build: str = UNKNOWN_BUILD) -> RegionCounts:
    """Read a counts table; its samples have no tissues yet, see `label_samples`.

    A build that is not stated is inferred where the coordinates fit one only.

    Raises
    ------
    InputError
        With file, line and column, if the table breaks the spec above.
    """
    require_file(path)
    table = read_text(path)
    header = {name.lower(): name for name in table.columns[:3]}
    if list(header) != ["chrom", "start", "end"]:
        raise InputError(
            "wrong columns", where=f"{path}, header",
            got=", ".join(table.columns[:4]) or "none",
            expected="chrom, start, end, then X_METH and X_DEPTH for each sample X",
        )  # fmt: skip
    names = _sample_names(list(table.columns[3:]), path)
    if table.empty:
        raise InputError("the table has no rows", where=path)
    missing = np.flatnonzero(table[header["chrom"]].fillna("").str.strip() == "")
    if len(missing):
        raise InputError("no chromosome", where=f"{path}, line {missing[0] + 2}")
    chrom = table[header["chrom"]].str.strip().to_numpy(dtype=str)
    end = integers(table[header["end"]], path)
    build, inferred = build_or_fitting(build, chrom, end)
    try:
        regions = RegionSet(chrom, integers(table[header["start"]], path), end, build)
        refuse_other_build(chrom, regions.end, build, where=path)
        return RegionCounts(
            np.stack([integers(table[n + _METH], path) for n in names]).astype(np.int32),
            np.stack([integers(table[n + _DEPTH], path) for n in names]).astype(np.int32),
            regions,
            pd.DataFrame(index=pd.Index(names, name="sample")),
            notes=inferred,
        )
    except DeconvError as error:
        if str(error).startswith(str(path)):
            raise
        raise InputError(str(error), where=path) from error


def _sample_names(columns: list[str], path: Path) -> list[str]:
    names = [c.removesuffix(_METH) for c in columns if c.endswith(_METH)]
    paired = [n + suffix for n in names for suffix in (_METH, _DEPTH)]
    odd = sorted(set(columns) ^ set(paired))
    if odd or not names:
        what = "a column is missing or unexpected" if odd else "there are no samples"
        raise InputError(
            what, where=f"{path}, header", got=", ".join(odd[:3]) or "none",
            expected="X_METH and X_DEPTH for each sample X",
        )  # fmt: skip
    return names


def labelled(counts: Samples, table: Path | None, *, where: object) -> Samples:
    """Return pure samples with tissue and donor, as they say, a table does, or names tell.

    What the samples call a ``group`` is their tissue; each is a donor of its own where that
    is not said. See `label_samples` for the table and for the names.

    Raises
    ------
    InputError
        Of the table or, of the file ``where`` the samples are from, if a tissue is not known.
    """
    if table is not None:
        return label_samples(counts, table)
    samples = counts.samples
    if "tissue" not in samples and "group" in samples:
        samples = samples.rename(columns={"group": "tissue"})
    if "donor" not in samples:
        samples = samples.assign(donor=samples.index)
    try:
        if "tissue" not in samples:
            return label_samples(counts)
        found = counts.labelled(samples)
        found.require("tissue", "donor")
    except DeconvError as error:
        raise InputError(str(error), where=where) from error
    return found


def label_samples(counts: Samples, table: Path | None = None) -> Samples:
    """Say which tissue and donor each sample is.

    Parameters
    ----------
    counts
        Counts whose samples may have no labels.
    table
        TSV or CSV with columns ``sample``, ``tissue`` and optionally ``donor`` (by
        default each sample is a donor of its own). Without it the tissue is the part of
        the sample name before the first ``-``, as in ``monocyte-2``.

    Raises
    ------
    InputError
        If the table lacks a column or a sample, or a name has no ``-``.
    """
    names = counts.samples.index
    if table is None:
        plain = [n for n in names if "-" not in n]
        if plain:
            raise InputError(
                "no tissue in a sample name", got=plain[0],
                expected="tissue-replicate, or a table of sample and tissue (--labels)",
            )  # fmt: skip
        labels = pd.DataFrame({"tissue": [n.split("-")[0] for n in names]}, index=names)
    else:
        require_file(table)
        labels = read_text(table, "," if table.suffix == ".csv" else "\t")
        if not {"sample", "tissue"} <= set(labels.columns):
            raise InputError(
                "wrong columns", where=table, got=", ".join(labels.columns),
                expected="sample, tissue and optionally donor",
            )  # fmt: skip
        labels = labels.set_index("sample")
        missing = names.difference(labels.index)
        if len(missing) or not labels.index.is_unique:
            raise InputError(
                f"{len(missing)} sample(s) have no row, or one has two",
                where=table, got=missing[0] if len(missing) else "a repeated sample",
            )  # fmt: skip
        labels = labels.loc[names]
    donor = labels["donor"] if "donor" in labels else pd.Series(names, index=names)
    samples = pd.DataFrame({"tissue": labels["tissue"], "donor": donor}, index=names)
    labelled = counts.labelled(samples)
    labelled.require("tissue", "donor")
    return labelled


def _looks_right(head: Head) -> bool:
    columns = head.first.split("\t")
    return [c.lower() for c in columns[:3]] == ["chrom", "start", "end"] and any(
        c.upper().endswith((_METH, _DEPTH)) for c in columns[3:]
    )


def _read(path: Path, regions: RegionSet | None, options: ReadOptions) -> RegionCounts:
    return read_counts_tsv(path, build=options.build)


FORMAT = Format(
    name="counts table",
    suffixes=(".tsv", ".txt"),
    content="a header of chrom, start, end, then X_METH and X_DEPTH for each sample X",
    looks_right=_looks_right,
    read=_read,
)
