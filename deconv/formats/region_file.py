"""Region sets from files: BED or TSV, with or without CpG indices.

Spec: tab-separated text, plain or gzip. Columns chrom, start, end (0-based half-open);
then, optionally, startCpG and endCpG, indices as of wgbstools (1-based, half-open). A
header (``chrom`` or ``chr``, ``start``, ``end``) may name them, and ``direction`` (U or M:
which fragments to count), in any order; without one, columns 4 and 5 are indices if they
can be: whole numbers in every row, of no more CpGs than the region has room for. Lines in
the beginning with ``#``, ``track`` or ``browser`` are BED's comments. So an atlas of UXM
and a table of ``beta_to_table`` are region files too, and an ``.h5ad`` of this library
gives the regions of its counts.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from deconv.errors import InputError, MismatchError
from deconv.files import require_file
from deconv.formats.format import Head
from deconv.formats.tables import integers, read_text
from deconv.genomes import GENOMES, fitting_builds, refuse_other_build
from deconv.regions import UNKNOWN_BUILD, Feature, RegionSet
from deconv.stored import open_h5ad

_COMMENTS = ("#", "track", "browser")
_HEADERS = {"chr": "chrom", "startcpg": "start_cpg", "endcpg": "end_cpg"}


def read_regions(
    path: Path, *, build: str = UNKNOWN_BUILD, feature: Feature | None = None
) -> RegionSet:
    """Read a region set.

    Parameters
    ----------
    build
        Genome build, which text files do not state. If it is not given, it is inferred
        where the coordinates fit one known build only.
    feature
        What to count in the regions; by default fragments if the file has a direction for
        them, else CpGs.

    Raises
    ------
    InputError
        With file and line, if the file breaks the spec above, or if the build is neither
        stated nor can be inferred.
    MismatchError
        If coordinates or CpG indices do not exist in the build.
    """
    require_file(path)
    if path.suffix.lower() == ".h5ad":
        return _stored_regions(path, build, feature)
    columns = region_columns(_read(path), path)
    chrom, end = columns["chrom"], columns["end"]
    if build == UNKNOWN_BUILD:
        build = _infer_build(chrom, end, path)
    refuse_other_build(chrom, end, build, where=path)
    try:
        if feature is None:
            feature = "u_fragment" if "direction" in columns else "cpg"
        if feature == "cpg":
            columns.pop("direction", None)
        regions = RegionSet.from_columns(columns, build, feature)
    except InputError as error:
        raise InputError(str(error), where=path) from error
    refuse_other_indices(regions, where=path)
    return regions


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


def refuse_other_indices(regions: RegionSet, *, where: object) -> None:
    """Refuse CpG indices that the build does not have, or that the regions have no room for.

    Raises
    ------
    MismatchError
        With the first such region.
    """
    if regions.start_cpg is None or regions.end_cpg is None:
        return
    crowded = np.flatnonzero(~_has_room(regions.columns()))
    if crowded.size:
        first = crowded[0]
        raise MismatchError(
            f"{crowded.size} region(s) have more CpGs than room for them", where=where,
            got=f"CpGs {regions.start_cpg[first]} to {regions.end_cpg[first]} in"
            f" {regions.names[first]}",
            expected="startCpG and endCpG of these coordinates",
        )  # fmt: skip
    genome = GENOMES.get(regions.build)
    last = int(regions.end_cpg.max()) - 1
    if genome is not None and genome.n_cpgs is not None and last > genome.n_cpgs:
        raise MismatchError(
            f"the CpG indices are of another genome build than {regions.build}",
            where=where, got=f"CpG {last}", expected=f"at most {genome.n_cpgs}",
        )  # fmt: skip


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
    room = _has_room(dict(zip(names, numbers, strict=True)))
    return bool(np.all(whole & (start_cpg >= 1) & (end_cpg > start_cpg) & room))


def _has_room(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Whether regions are long enough for their CpGs, which are two base pairs each."""
    n_cpgs = columns["end_cpg"] - columns["start_cpg"]
    return np.asarray(2 * n_cpgs <= columns["end"] - columns["start"] + 2)


def _infer_build(chrom: np.ndarray, end: np.ndarray, path: Path) -> str:
    fitting = fitting_builds(chrom, end)
    if len(fitting) != 1:
        raise InputError(
            "the genome build is not stated", where=path,
            got=f"coordinates that fit {' and '.join(fitting) or 'no known build'}",
            expected="a stated build, for example --build hg38",
        )  # fmt: skip
    return fitting[0]


def _stored_regions(path: Path, build: str, feature: Feature | None) -> RegionSet:
    stored = open_h5ad(path)
    with stored.layers.file:
        regions = stored.regions
    if build not in (UNKNOWN_BUILD, regions.build):
        raise MismatchError(
            "the regions are of another genome build (they are not lifted over)",
            where=path, got=regions.build, expected=build,
        )  # fmt: skip
    if feature in (None, regions.feature):
        return regions
    columns = regions.columns()
    columns.pop("direction", None)
    return RegionSet.from_columns(columns, regions.build, feature)
