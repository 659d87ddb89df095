"""Region sets from files: BED or TSV, with or without CpG indices.

Spec: tab-separated text, plain or gzip. Columns chrom, start, end (0-based half-open);
then, optionally, startCpG and endCpG, indices as of wgbstools (1-based, half-open). A
header (``chrom`` or ``chr``, ``start``, ``end``) may name them, and ``direction`` (U or M:
which fragments to count), in any order; without one, columns 4 and 5 are indices if they
can be: whole numbers in every row, of no more CpGs than the region has room for. Lines in
the beginning with ``#``, ``track`` or ``browser`` are BED's comments. So an atlas of UXM
and a table of ``beta_to_table`` are region files too. A table or an ``.h5ad`` of this library
gives the regions of its counts or means, and states their build and what is counted.
"""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from deconv.errors import InputError, from_file
from deconv.files import require_file
from deconv.formats.atlas_h5ad import is_atlas_of_means, read_means_h5ad
from deconv.formats.builds import has_room, of_build, refuse_other_indices
from deconv.formats.format import Head
from deconv.formats.tables import integers, read_text
from deconv.genomes import fitting_builds, known_build, refuse_other_build
from deconv.regions import UNKNOWN_BUILD, Feature, RegionSet
from deconv.stored import open_h5ad

MARK = "#deconv-atlas "
"""How a table that this library wrote begins; see `deconv.formats.atlas_tables`."""

_OTHER = "the regions are of another genome build (they are not lifted over)"
_COMMENTS = ("#", "track", "browser")
_HEADERS = {"chr": "chrom", "startcpg": "start_cpg", "endcpg": "end_cpg"}


def read_regions(
    path: Path, *, build: str = UNKNOWN_BUILD, feature: Feature | None = None
) -> RegionSet:
    """Read a region set.

    Parameters
    ----------
    build
        Genome build, which text files of others do not state. If it is not given, it is
        inferred where the coordinates fit one known build only.
    feature
        What to count in the regions; by default what the file states, or fragments if it has a
        direction for them, else CpGs.

    Raises
    ------
    InputError
        With file and line, if the file breaks the spec above, or if the build is neither
        stated nor can be inferred.
    MismatchError
        If the file states another build, or coordinates or CpG indices do not exist in it.
    """
    require_file(path)
    build = known_build(build)
    if path.suffix.lower() == ".h5ad":
        return _checked(_stored_regions(path), build, feature, path)
    header = table_header(path)
    if header is not None:
        try:
            with from_file(path):
                if header["feature"] not in get_args(Feature):
                    raise InputError("unknown feature", got=repr(header["feature"]))
                columns = region_columns(_read(path), path)
                stated = RegionSet.from_columns(columns, str(header["build"]), header["feature"])
        except KeyError as error:
            raise InputError("a part is missing or damaged", where=path, got=error) from error
        refuse_other_build(stated.chrom, stated.end, stated.build, where=path)
        refuse_other_indices(stated, where=path)
        return _checked(stated, build, feature, path)
    columns = region_columns(_read(path), path)
    chrom, end = columns["chrom"], columns["end"]
    if build == UNKNOWN_BUILD:
        build = _infer_build(chrom, end, path)
    refuse_other_build(chrom, end, build, where=path)
    if feature is None:
        feature = "u_fragment" if "direction" in columns else "cpg"
    if feature == "cpg":
        columns.pop("direction", None)
    with from_file(path):
        regions = RegionSet.from_columns(columns, build, feature)
    refuse_other_indices(regions, where=path)
    return regions


def table_header(path: Path) -> dict[str, Any] | None:
    """Return what a table of this library states in its first line; None of another file.

    Raises
    ------
    InputError
        If that line is damaged.
    """
    first = Head(path).first
    if not first.startswith(MARK):
        return None
    if "\ufffd" in first:  # which stands for bytes that are no text
        raise InputError("the first line is damaged", where=path, expected="UTF-8")
    try:
        header = json.loads(first.removeprefix(MARK))
    except ValueError as error:
        raise InputError("the first line is damaged", where=path, got=error) from error
    if not isinstance(header, dict):
        raise InputError("the first line is damaged", where=path, expected=f"{MARK}{{...}}")
    return header


def region_columns(table: pd.DataFrame, path: Path) -> dict[str, np.ndarray]:
    """Return the columns that make a `RegionSet`, whose rules are not checked yet.

    Parameters
    ----------
    table
        As read, strings, with the names of those columns; the index of a row and 2 is its
        line.

    Raises
    ------
    InputError
        With the line, if a chromosome is missing or a number is none.
    """
    missing = np.flatnonzero(table["chrom"].fillna("").str.strip() == "")
    if missing.size:
        raise InputError("no chromosome", where=f"{path}, line {table.index[missing[0]] + 2}")
    columns = {"chrom": table["chrom"].str.strip().to_numpy(dtype=str)}
    for name in ("start", "end", "start_cpg", "end_cpg"):
        if name in table:
            columns[name] = integers(table[name], path)
    if "direction" in table:
        columns["direction"] = table["direction"].fillna("").to_numpy(dtype=str)
    return columns


def _read(path: Path) -> pd.DataFrame:
    """Return the table with our names for what is known of its columns."""
    lines = Head(path).lines
    n_comments = next((i for i, s in enumerate(lines) if not s.startswith(_COMMENTS)), len(lines))
    if n_comments and _is_header(lines[n_comments - 1].removeprefix("#")):
        n_comments -= 1  # "#chr start end", as wgbstools writes it
    rest = lines[n_comments:]
    has_header = bool(rest) and _is_header(rest[0].removeprefix("#"))
    fields = rest[0].split("\t") if rest else []
    if not has_header and not (len(fields) > 2 and fields[1].strip().isdigit()):
        raise InputError(
            "not a table of regions", where=f"{path}, line {n_comments + 1}",
            got=repr(rest[0][:80]) if rest else "no row",
            expected="chrom, start and end, separated by tabs",
        )  # fmt: skip
    table = read_text(path, n_skipped=n_comments, header=has_header)
    if table.empty:
        raise InputError("the table has no rows", where=path)
    if has_header:
        plain = [str(c).removeprefix("#").strip().lower() for c in table.columns]
        named = table.set_axis([_HEADERS.get(name, name) for name in plain], axis=1)
        twice = named.columns[named.columns.duplicated()]
        if len(twice):
            raise InputError(
                "a column occurs twice, but for letter case and spaces",
                where=f"{path}, line {n_comments + 1}", got=twice[0],
            )  # fmt: skip
        return named
    names = ["chrom", "start", "end"]
    if len(fields) > 4 and _can_be_indices(table):
        names += ["start_cpg", "end_cpg"]
    return table.iloc[:, : len(names)].set_axis(names, axis=1)


def _is_header(line: str) -> bool:
    names = [name.strip().lower() for name in line.split("\t")[:3]]
    return names in (["chrom", "start", "end"], ["chr", "start", "end"])


def _can_be_indices(table: pd.DataFrame) -> bool:
    numbers = [pd.to_numeric(table[j], errors="coerce").to_numpy(float) for j in range(1, 5)]
    start_cpg, end_cpg = numbers[2:]
    whole = (start_cpg == np.floor(start_cpg)) & (end_cpg == np.floor(end_cpg))
    names = ("start", "end", "start_cpg", "end_cpg")
    room = has_room(dict(zip(names, numbers, strict=True)))
    return bool(np.all(whole & (start_cpg >= 1) & (end_cpg > start_cpg) & room))


def _infer_build(chrom: np.ndarray, end: np.ndarray, path: Path) -> str:
    fitting = fitting_builds(chrom, end)
    if len(fitting) != 1:
        raise InputError(
            "the genome build is not stated", where=path,
            got=f"coordinates that fit {' and '.join(fitting) or 'no known build'}",
            expected="a stated build, for example --build hg38",
        )  # fmt: skip
    return fitting[0]


def _stored_regions(path: Path) -> RegionSet:
    if is_atlas_of_means(path):
        return read_means_h5ad(path).regions
    stored = open_h5ad(path)
    with stored.layers.file:
        return stored.regions


def _checked(regions: RegionSet, build: str, feature: Feature | None, path: Path) -> RegionSet:
    """Return the regions of a file that states their build and what is counted in them."""
    regions = of_build(regions, build, where=path, other=_OTHER)
    if feature in (None, regions.feature):
        return regions
    columns = regions.columns()
    columns.pop("direction", None)
    return RegionSet.from_columns(columns, regions.build, feature)
