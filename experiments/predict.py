"""Predict samples in files with a model from the registry or a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from deconv.bundle import Bundle, read_bundle
from deconv.checkpoint import load_checkpoint
from deconv.errors import InputError
from deconv.files import replacing, write_text
from deconv.formats import ReadOptions, open_counts
from deconv.inference import BATCH_SIZE
from deconv.plots import composition
from deconv.predictor import MIN_OVERLAP, NetworkMethod
from deconv.regions import UNKNOWN_BUILD
from experiments.registry import fetch_model


@dataclass(frozen=True)
class Prediction:
    """The table of all files, and what was matched, in words."""

    table: pd.DataFrame
    notes: list[str]


def load_model(source: str) -> Bundle:
    """Load a model by MLflow URI, bundle folder or checkpoint file; nothing is unpickled."""
    if ":/" in source:
        return read_bundle(fetch_model(source))
    path = Path(source)
    if path.is_file():
        checkpoint = load_checkpoint(path)
        return Bundle(checkpoint.network, checkpoint.atlas)
    return read_bundle(path)


def predict_files(
    files: Sequence[Path],
    bundle: Bundle,
    *,
    build: str = UNKNOWN_BUILD,
    min_overlap: float = MIN_OVERLAP,
) -> Prediction:
    """Deconvolve all samples of the files.

    Raises
    ------
    InputError
        If a file is malformed, or two files have a sample of the same name.
    MismatchError
        If genome build or feature differ from the model's, or too few regions match.
    """
    method = NetworkMethod(
        bundle.network, bundle.atlas, calibration=bundle.calibration, min_overlap=min_overlap
    )
    tables, notes = [], []
    for file in files:
        counts = open_counts(file, options=ReadOptions(build=build))
        wanted = bundle.atlas.regions
        found = wanted.find_in(counts.regions, where=file, min_overlap=min_overlap)
        n_found = int((found >= 0).sum())
        notes.append(
            f"{file}: {len(counts)} sample(s), {n_found} of the model's {len(wanted)} regions"
        )
        for first in range(0, len(counts), BATCH_SIZE):
            part = counts.take(range(first, min(first + BATCH_SIZE, len(counts)))).load()
            tables.append(method.predict(part).table(part.samples.index))
    table = pd.concat(tables, ignore_index=True)
    twice = table.duplicated(["sample", "tissue"])
    if twice.any():
        raise InputError("two files have the same sample", got=table.loc[twice, "sample"].iloc[0])
    return Prediction(table, notes)


def write_prediction(prediction: Prediction, output: Path) -> Path:
    """Write the table as CSV and a figure beside it, and return the figure's path."""
    if output.suffix != ".csv":
        raise InputError("unknown suffix", where=output, expected=".csv")
    figure_path = output.with_suffix(".png")
    with replacing(figure_path) as temporary:
        composition(prediction.table).savefig(temporary)
    write_text(output, prediction.table.to_csv(index=False))
    return figure_path
