r"""Atlases as text tables: published means, and what this library writes.

Spec of means: tab-separated text with a header, plain or gzip. Columns ``chr`` or ``chrom``,
``start``, ``end`` (0-based half-open), optionally ``startCpG``, ``endCpG``, ``target``,
``name`` and ``direction`` (see `deconv.formats.uxm_atlas`), then a column per tissue: its
mean, 0 to 1, or ``NA``. UXM, nanomix and ``beta_to_table`` write such tables.

Spec of this library's, version 1: a first line ``#deconv-atlas`` and, after a space, JSON
with ``version``, ``build`` and ``feature``. With ``samples`` (each with ``sample``, ``tissue``
and ``donor``), the table has the counts, ``X_METH`` and ``X_DEPTH`` of each sample X; without,
it has the means of each tissue and, where they are not assumed, ``_rho`` and ``_profile`` of
each region, with ``n_donors`` in the JSON. Nothing that an atlas is made of is lost.
"""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deconv.counts import RegionCounts
from deconv.errors import DeconvError, InputError
from deconv.files import replacing
from deconv.formats.builds import of_build
from deconv.formats.columns import fractions
from deconv.formats.region_file import MARK, read_regions, region_columns, table_header
from deconv.formats.tables import integers, read_text
from deconv.reference import Means, Reference
from deconv.regions import UNKNOWN_BUILD, RegionSet

VERSION = 1
_NAMES = {"chr": "chrom", "startCpG": "start_cpg", "endCpG": "end_cpg"}
_REGION = ("chrom", "start", "end", "start_cpg", "end_cpg", "target", "name", "direction")
_RHO, _PROFILE = "_rho", "_profile"
_SPECIAL = (*_REGION, _RHO, _PROFILE)


def read_means(path: Path, *, build: str = UNKNOWN_BUILD) -> Means:
    """Read published means.

    Parameters
    ----------
    build
        Genome build, which such tables do not state; it is inferred where the coordinates
        fit one only.

    Raises
    ------
    InputError
        With file, line and column, if the table breaks the spec above, or if the build is
        neither stated nor can be inferred.
    MismatchError
        If coordinates or CpG indices do not exist in the build.
    """
    regions = read_regions(path, build=build)
    table = read_text(path)
    # A region file may begin with comments; the rows here are the tissues' means too.
    if len(table) != len(regions) or str(table.columns[0]).lower() not in ("chr", "chrom"):
        raise InputError(
            "not a table of means", where=f"{path}, line 1", got=str(table.columns[0]),
            expected="a header that begins with chr or chrom, and no comments",
        )  # fmt: skip
    table = table.rename(columns=dict(zip(table.columns[:3], _REGION[:3], strict=True)))
    return _means(table, regions, path)


def read_atlas_table(path: Path, *, build: str = UNKNOWN_BUILD) -> Reference:
    """Read what `write_atlas_table` wrote.

    Raises
    ------
    InputError
        If it is damaged or of another version.
    MismatchError
        If it states another build.
    """
    header = table_header(path) or {}
    if header.get("version") != VERSION:
        raise InputError(
            "another format version", where=path, got=header.get("version"), expected=VERSION
        )
    try:
        stated, feature = str(header["build"]), header["feature"]
        table = read_text(path, n_skipped=1).rename(columns=_NAMES)
        columns = region_columns(table, path)
        regions = RegionSet.from_columns(columns, stated, feature)
        regions = of_build(regions, build, where=path)
        if "samples" not in header:
            return Reference(means=_means(table, regions, path, header))
        samples = pd.DataFrame(header["samples"]).set_index("sample")
        arrays = [
            np.stack([integers(table[f"{n}_{kind}"], path) for n in samples.index])
            for kind in ("METH", "DEPTH")
        ]
        methylated, coverage = (a.astype(np.int32) for a in arrays)
        return Reference(donors=RegionCounts(methylated, coverage, regions, samples))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("a part is missing or damaged", where=path, got=error) from error
    except DeconvError as error:
        if str(error).startswith(str(path)):
            raise
        raise type(error)(str(error), where=path) from error


def write_atlas_table(reference: Reference, path: Path) -> None:
    """Write a reference, whole or not at all; gzip if the name ends with ``.gz``.

    Raises
    ------
    InputError
        If a tissue or sample has a name that such a table cannot have.
    """
    _refuse_names(reference, path)
    regions = reference.regions
    names = {new: old for old, new in _NAMES.items() if old != "chr"}
    table = pd.DataFrame(regions.columns()).rename(columns=names)
    header: dict[str, Any] = {
        "version": VERSION, "build": regions.build, "feature": regions.feature,
    }  # fmt: skip
    if reference.target is not None:
        table["target"] = reference.target
    if reference.donors is not None:
        samples = reference.donors.samples
        header["samples"] = json.loads(
            samples.rename_axis("sample").reset_index().to_json(orient="records")
        )
        counts: dict[str, np.ndarray] = {}
        for name, (methylated, coverage) in zip(
            samples.index, reference.donors.rows(), strict=True
        ):
            counts |= {f"{name}_METH": methylated, f"{name}_DEPTH": coverage}
        values = pd.DataFrame(counts)
    else:
        assert reference.means is not None
        means = reference.means
        values = pd.DataFrame(means.stated.T, columns=list(means.tissues))
        if means.dispersion is not None:
            for name, array in zip((_RHO, _PROFILE), means.dispersion, strict=True):
                table[name] = [f"{v:.9g}" for v in array]  # enough digits of a float32
        if means.n_donors is not None:
            header["n_donors"] = means.n_donors.tolist()
    text = io.StringIO()
    text.write(f"{MARK}{json.dumps(header)}\n")
    pd.concat([table, values], axis=1).to_csv(
        text, sep="\t", index=False, na_rep="NA", lineterminator="\n"
    )
    with replacing(path) as temporary:
        content = text.getvalue()
        if path.suffix == ".gz":
            temporary.write_bytes(gzip.compress(content.encode(), mtime=0))
        else:
            temporary.write_text(content, encoding="utf-8")


def _refuse_names(reference: Reference, path: Path) -> None:
    """Refuse names that would be read as no tissue, as another column or as two fields."""
    names = reference.tissues if reference.donors is None else reference.donors.samples.index
    columns = {name.lower() for name in (*_SPECIAL, *_NAMES)} if reference.donors is None else ()
    for name in map(str, names):
        plain = name.strip().lower()
        if not plain or plain in columns or not name.isprintable() or '"' in name:
            raise InputError(
                "a table cannot have a tissue or sample of this name", where=path,
                got=repr(name), expected="another name, or an .h5ad",
            )  # fmt: skip


def _means(
    table: pd.DataFrame, regions: RegionSet, path: Path, header: dict[str, Any] | None = None
) -> Means:
    table = table.rename(columns=_NAMES)
    special = [c for c in _SPECIAL if c in table]
    tissues = [str(c) for c in table.columns if c not in special]
    if len(tissues) < 2:
        raise InputError(
            "no means of two or more tissues", where=f"{path}, header",
            got=", ".join(map(str, table.columns[:10])),
            expected="chr, start, end, then a column per tissue",
        )  # fmt: skip
    dispersion, n_donors = None, (header or {}).get("n_donors")
    if header is not None and _RHO in table:
        rho, profile = (table[c].astype(np.float64).to_numpy() for c in (_RHO, _PROFILE))
        dispersion = rho.astype(np.float32), profile.astype(np.float32)
    stated = fractions(table[tissues], path)
    if header is not None:  # to the last bit, which pandas' quick parser does not keep
        stated = table[tissues].to_numpy(dtype=object).astype(np.float64)
    return Means(
        tuple(tissues),
        regions,
        np.ascontiguousarray(stated.T),
        table["target"].fillna("").to_numpy(dtype=str) if "target" in table else None,
        dispersion,
        None if n_donors is None else np.array(n_donors, dtype=np.int64),
    )
