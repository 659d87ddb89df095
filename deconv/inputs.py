"""What a user names on the command line: files of samples, and sheets that list them.

Spec of a sample sheet: CSV, or tab-separated as ``.tsv`` or ``.txt``, with a header. Columns
``sample`` and ``path`` (relative ones are relative to the sheet), optionally ``tissue`` or
``group``, ``donor``, ``sex``, ``conversion`` (bisulfite conversion, a fraction or percent) and
any others. A file of a single sample gets the sheet's name for it; of a file with several,
the sheet's names pick some.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deconv.counts import Samples
from deconv.errors import InputError
from deconv.files import require_file
from deconv.formats import ReadOptions, open_counts
from deconv.formats.format import Head
from deconv.formats.tables import read_text
from deconv.regions import RegionSet

NEEDED = ("sample", "path")
_SUFFIXES = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


@dataclass(frozen=True, eq=False)
class Source:
    """A file of samples, with what a sheet says of them (rows by sample name) if one does."""

    path: Path
    rows: pd.DataFrame | None = None
    sheet: Path | None = None

    def open(self, regions: RegionSet | None, options: ReadOptions) -> Samples:
        """Open the samples; see `deconv.formats.open_counts` for the parameters.

        Raises
        ------
        DeconvError
            If the file cannot be read, or lacks a sample of the sheet.
        """
        counts = open_counts(self.path, regions=regions, options=options)
        if self.rows is None:
            return counts
        names = counts.samples.index
        if len(names) == 1 and len(self.rows) == 1 and counts.proportions is None:
            chosen = counts.samples.set_axis(self.rows.index)
        else:
            missing = self.rows.index.difference(names)
            if len(missing):
                line = self.rows.loc[missing[0], "line"]
                raise InputError(
                    "the file has no such sample", where=f"{self.sheet}, line {line}",
                    got=missing[0],
                    expected=", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else ""),
                )  # fmt: skip
            counts = counts.take(names.get_indexer(self.rows.index))
            chosen = counts.samples
        said = self.rows.drop(columns=["line", "path"])
        kept = chosen.drop(columns=said.columns, errors="ignore")
        return counts.labelled(kept.join(said))


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """Return the files that are meant: those given, and those that given sheets list.

    Raises
    ------
    InputError
        If a sheet is malformed.
    """
    sources: list[Source] = []
    for path in paths:
        sources += read_sheet(path) if is_sheet(path) else [Source(path)]
    return sources


def is_sheet(path: Path) -> bool:
    """Whether a text table begins with a column of samples, or has those a sheet needs.

    Raises
    ------
    InputError
        If it is a sheet as Excel writes it in some languages, with semicolons.
    """
    separator = _SUFFIXES.get(path.suffix.lower())
    if separator is None:
        return False
    try:
        require_file(path)
    except InputError:  # of no format either, as who opens it is told
        return False
    first = Head(path).first
    names = [name.strip(' "\ufeff').lower() for name in first.split(separator)]
    if separator == "," and {n.strip(' "\ufeff') for n in names[0].split(";")} >= set(NEEDED):
        raise InputError(
            "the sheet's columns are separated by semicolons", where=path, got=repr(first[:80]),
            expected="commas in a .csv, as in 'sample,path,donor' (or tabs in a .tsv)",
        )  # fmt: skip
    return names[0] == NEEDED[0] or set(NEEDED) <= set(names)


def read_sheet(path: Path, *, need_files: bool = True) -> list[Source]:
    """Read a sample sheet, and return its files in the order of their first samples.

    Parameters
    ----------
    need_files
        Whether all files have to be there by now.

    Raises
    ------
    InputError
        With file and line, if it breaks the spec above or lists a file that is not there.
    """
    require_file(path)
    table = read_text(path, _SUFFIXES.get(path.suffix.lower(), "\t"))
    table.columns = pd.Index([str(c).strip(" \ufeff").lower() for c in table.columns])
    missing = [name for name in NEEDED if name not in table]
    if missing or not table.columns.is_unique:
        raise InputError(
            f"no column {missing[0]}" if missing else "a column occurs twice",
            where=f"{path}, header", got=", ".join(table.columns),
            expected="sample, path and optionally tissue or group, donor, sex, conversion",
        )  # fmt: skip
    table = table.apply(lambda column: column.str.strip()).replace("", np.nan)
    table = table.assign(line=table.index + 2).dropna(how="all", subset=list(table.columns))
    if table.empty:
        raise InputError("the sheet lists no samples", where=path)
    for name in (*NEEDED, *(c for c in ("tissue", "group", "donor") if c in table)):
        _refuse(table, table[name].isna(), f"no {name}", path)
    _refuse(table, table["sample"].duplicated(), "a sample is listed twice", path, "sample")
    files = table["path"].map(lambda name: path.parent / name)
    if need_files:
        _refuse(table, ~files.map(_is_there), "no such file", path, "path")
    table = table.set_index("sample")
    return [
        Source(Path(file), rows, path)
        for file, rows in table.groupby(files.to_numpy(), sort=False)
    ]


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # who opens it is told why it cannot be
        return True


def _refuse(
    table: pd.DataFrame, bad: pd.Series, what: str, path: Path, column: str | None = None
) -> None:
    if bad.any():
        row = table[bad.to_numpy(dtype=bool)].iloc[0]
        raise InputError(
            what, where=f"{path}, line {row['line']}", got=None if column is None else row[column]
        )
