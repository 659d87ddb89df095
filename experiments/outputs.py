"""What `deconv predict` writes: one table and a figure, or a folder with pages."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from deconv.errors import InputError
from deconv.files import replacing, require_place, write_text
from deconv.plots import composition
from deconv.quality_tables import plain, quality_json
from experiments import pages
from experiments.predict import Prediction


def write_prediction(prediction: Prediction, output: Path) -> list[Path]:
    """Write a prediction, and return the paths that a person wants to open.

    Parameters
    ----------
    output
        A ``.csv`` file: a row per sample and tissue, with a figure beside it. Or a folder:
        the same as ``predictions.csv``, ``proportions.csv`` (a row per sample, a column per
        tissue), ``predictions.json``, figures, and ``index.html`` with a page per sample.

    Raises
    ------
    InputError
        If the name has another suffix.
    """
    if output.suffix == ".csv":
        figure = output.with_suffix(".png")
        _write_figure(prediction, figure)
        write_text(output, prediction.table.to_csv(index=False))
        return [output, figure]
    check_output(output)
    return _write_folder(prediction, output)


def check_output(output: Path) -> None:
    """Refuse a name that is neither of a table nor of a folder, before the work is done.

    Raises
    ------
    InputError
        If it has another suffix than ``.csv``, or is a file, or nothing can be written there.
    """
    known = output.suffix == ".csv" or output.is_dir()
    if not known and (output.suffix in _FILE_SUFFIXES or output.exists()):
        raise InputError(
            "unknown suffix", where=output, got=output.suffix, expected=".csv, or a folder's name"
        )
    require_place(output if output.suffix == ".csv" else output / "predictions.csv")


_FILE_SUFFIXES = {".json", ".tsv", ".txt", ".html", ".h5ad", ".png", ".xlsx", ".gz", ".pdf"}


def _write_folder(prediction: Prediction, folder: Path) -> list[Path]:
    table = prediction.table
    write_text(folder / "predictions.csv", table.to_csv(index=False))
    write_text(folder / "proportions.csv", wide(table).to_csv())
    write_text(folder / "predictions.json", json.dumps(as_json(prediction), indent=1))
    _write_figure(prediction, folder / "composition.png")
    names = page_names([str(s) for s in table["sample"].unique()])
    for sample, name in names.items():
        write_text(folder / "samples" / name, pages.sample_page(prediction, sample))
    write_text(folder / "index.html", pages.index_page(prediction, names))
    return [folder / "predictions.csv", folder / "index.html"]


def _write_figure(prediction: Prediction, path: Path) -> None:
    with replacing(path) as temporary:
        composition(prediction.table).savefig(temporary)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Return proportions with a row per sample, missing where a tissue is not assessable."""
    found = table.pivot(index="sample", columns="tissue", values="proportion")
    found = found.loc[table["sample"].unique(), table["tissue"].unique()]
    found.columns.name = None
    if "out_of_atlas" in table:
        found["out_of_atlas"] = table.groupby("sample")["out_of_atlas"].first()
    return found


def as_json(prediction: Prediction) -> dict[str, Any]:
    """Return everything that was found, without NaN, for JSON."""
    samples = {}
    for name, rows in prediction.table.groupby("sample", sort=False):
        shared = {k: rows[k].iloc[0] for k in ("out_of_atlas",) if k in rows}
        tissues = rows.drop(columns=["sample", *shared]).to_dict("records")
        samples[str(name)] = {**shared, "tissues": tissues}
    return {
        "for": "research use only",
        "model": dict(prediction.model.facts),
        "samples": plain(samples),
        **quality_json(prediction.measured, prediction.findings, prediction.notes),
    }


def page_names(samples: list[str]) -> dict[str, str]:
    """Return a file name for each sample's page, whatever characters its name has."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for sample in samples:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", sample).strip("._")[:100] or "sample"
        name, n = f"{stem}.html", 1
        while name.lower() in taken:  # some file systems do not tell case
            n += 1
            name = f"{stem}-{n}.html"
        taken.add(name.lower())
        names[sample] = name
    return names
