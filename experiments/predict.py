"""Analyse samples: their proportions, and what is wrong or doubtful about them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from deconv import quality
from deconv.errors import DeconvError
from deconv.findings import Finding, find, ranked
from deconv.formats import ReadOptions
from deconv.inputs import Source, find_sources
from deconv.predictor import MIN_OVERLAP
from deconv.quality import Measured
from experiments.analysis import Analysis, Part
from experiments.models import Model, load_model, open_model

__all__ = ["Model", "Prediction", "load_model", "open_model", "predict_files"]

_DEFAULT = ReadOptions()


@dataclass(frozen=True)
class Prediction:
    """What was found in the samples of all files.

    Attributes
    ----------
    table
        A row per sample and tissue, see `deconv.reported`.
    measured
        None if no file could be read.
    figures
        A row per sample predicted, see `deconv.trained_range.sample_figures`.
    notes
        What was matched, in words.
    """

    model: Model
    table: pd.DataFrame
    measured: Measured | None
    figures: pd.DataFrame
    findings: list[Finding]
    notes: list[str]


def predict_files(
    paths: Sequence[Path],
    model: Model,
    *,
    options: ReadOptions = _DEFAULT,
    min_overlap: float = MIN_OVERLAP,
    only_check: bool = False,
    advance: Callable[[int, int], None] = lambda n_done, n_files: None,
) -> Prediction:
    """Deconvolve all samples of files and sample sheets, and check them.

    Parameters
    ----------
    only_check
        Make a finding of whatever would be refused, but for a malformed sheet.
    advance
        Is told how many of how many files are done.

    Raises
    ------
    InputError
        If a file or sheet is malformed, a sample has no coverage, or two files have a
        sample of the same name.
    MismatchError
        If genome build or feature differ from the model's, or too few regions match.
    """
    analysis = Analysis(model, options, min_overlap, empty="measure" if only_check else "refuse")
    sources = find_sources(paths)
    for i, source in enumerate(sources):
        advance(i, len(sources))
        try:
            analysis.add(source)
        except DeconvError as error:
            if not only_check:
                raise
            analysis.findings.append(Finding("error", "file", source.path.name, str(error)))
    return join_parts(model, [analysis.part()])


def analyse_source(
    source: Source, model: Model, *, options: ReadOptions, min_overlap: float
) -> tuple[Part, list[str]]:
    """Deconvolve the samples of one file as `predict_files` does, whatever the others are.

    Returns
    -------
    What was found, and the names of samples without coverage, which are left out.

    Raises
    ------
    DeconvError
        If the file cannot be analysed.
    """
    analysis = Analysis(model, options, min_overlap, empty="leave out")
    analysis.add(source)
    return analysis.part(), analysis.empty


def join_parts(model: Model, parts: Sequence[Part]) -> Prediction:
    """Return what was found in files as one, with what the checks find in all samples."""
    measured = [part.measured for part in parts if part.measured is not None]
    whole = quality.join(measured) if measured else None
    findings = [finding for part in parts for finding in part.findings]
    tables = [part.table for part in parts if len(part.table)]
    figures = [part.figures for part in parts if len(part.figures)]
    return Prediction(
        model,
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(),
        whole,
        pd.concat(figures) if figures else pd.DataFrame(),
        ranked(findings + ([] if whole is None else find(whole))),
        [*model.notes, *(note for part in parts for note in part.notes)],
    )
