"""Analyse samples: their proportions, and what is wrong or doubtful about them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from deconv import quality
from deconv.counts import RegionCounts, Samples
from deconv.errors import DeconvError, InputError
from deconv.findings import Finding, find, ranked
from deconv.formats import ReadOptions
from deconv.inference import BATCH_SIZE
from deconv.inputs import Source, find_sources
from deconv.predictor import MIN_OVERLAP, Deconvolution
from deconv.quality import Measured
from deconv.reported import NOT_ASSESSABLE, hidden_tissues, reported_table
from deconv.trained_range import sample_figures
from experiments.models import Model, load_model, open_model

__all__ = ["Model", "Prediction", "check_files", "load_model", "open_model", "predict_files"]

_DEFAULT = ReadOptions()


@dataclass(frozen=True)
class Part:
    """What was found in the samples of some files, see `Prediction`, before they are compared."""

    table: pd.DataFrame
    measured: Measured | None
    figures: pd.DataFrame
    findings: list[Finding]
    notes: list[str]

    @classmethod
    def nothing(cls, findings: Sequence[Finding] = ()) -> "Part":
        """Return a part without samples."""
        return cls(pd.DataFrame(), None, pd.DataFrame(), list(findings), [])


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
    advance: Callable[[int, int], None] = lambda n_done, n_files: None,
) -> Prediction:
    """Deconvolve all samples of files and sample sheets, and check them.

    ``advance`` is told how many of how many files are done.

    Raises
    ------
    InputError
        If a file or sheet is malformed, a sample has no coverage, or two files have a
        sample of the same name.
    MismatchError
        If genome build or feature differ from the model's, or too few regions match.
    """
    analysis = _Analysis(model, options, min_overlap)
    sources = find_sources(paths)
    for i, source in enumerate(sources):
        advance(i, len(sources))
        analysis.add(source)
    return join_parts(model, [analysis.part()])


def check_files(
    paths: Sequence[Path],
    model: Model,
    *,
    options: ReadOptions = _DEFAULT,
    min_overlap: float = MIN_OVERLAP,
    advance: Callable[[int, int], None] = lambda n_done, n_files: None,
) -> Prediction:
    """Check all samples as `predict_files` does; what it would refuse becomes a finding.

    Raises
    ------
    InputError
        If a sheet is malformed.
    """
    analysis = _Analysis(model, options, min_overlap, empty="measure")
    sources = find_sources(paths)
    for i, source in enumerate(sources):
        advance(i, len(sources))
        try:
            analysis.add(source)
        except DeconvError as error:
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
    analysis = _Analysis(model, options, min_overlap, empty="leave out")
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


class _Analysis:
    """Goes through files, a batch of samples in memory at a time.

    Samples without coverage are refused, only measured, or left out and listed in ``empty``.
    """

    def __init__(
        self,
        model: Model,
        options: ReadOptions,
        min_overlap: float,
        empty: Literal["refuse", "measure", "leave out"] = "refuse",
    ) -> None:
        self.findings: list[Finding] = []
        self.empty: list[str] = []
        self._model, self._options, self._min_overlap = model, options, min_overlap
        self._on_empty = empty
        self._tables: list[pd.DataFrame] = []
        self._measured: list[Measured] = []
        self._figures: list[pd.DataFrame] = []
        self._notes: list[str] = []
        self._file_of: dict[str, Path] = {}

    def add(self, source: Source) -> None:
        """Analyse the samples of a file."""
        wanted = self._model.atlas.regions
        counts = source.open(wanted, self._options)
        found = wanted.find_in(counts.regions, where=source.path, min_overlap=self._min_overlap)
        n_found = int((found >= 0).sum())
        self._refuse_repeated(counts, source.path)
        for first in range(0, len(counts), BATCH_SIZE):
            part = counts.take(range(first, min(first + BATCH_SIZE, len(counts)))).load()
            self._analyse(part.at_regions(wanted, min_overlap=self._min_overlap))
        self._file_of |= {str(name): source.path for name in counts.samples.index}
        self._notes.append(
            f"{source.path}: {len(counts)} sample(s), "
            f"{n_found} of the model's {len(wanted)} regions"
        )
        self._notes += [f"{source.path}: {note}" for note in counts.notes]

    def part(self) -> Part:
        """Return what was found so far."""
        return Part(
            pd.concat(self._tables, ignore_index=True) if self._tables else pd.DataFrame(),
            quality.join(self._measured) if self._measured else None,
            pd.concat(self._figures) if self._figures else pd.DataFrame(),
            self.findings,
            self._notes,
        )

    def _refuse_repeated(self, counts: Samples, path: Path) -> None:
        for name in map(str, counts.samples.index):
            if name in self._file_of:
                raise InputError(
                    "two files have the same sample", where=path, got=name,
                    expected=f"another name than in {self._file_of[name]}"
                    " (a sample sheet can give one)",
                )  # fmt: skip

    def _analyse(self, part: RegionCounts) -> None:
        seen = np.asarray(part.coverage.any(axis=1))
        if self._on_empty == "leave out" and not seen.all():
            self.empty += map(str, part.samples.index[~seen])
            if not seen.any():
                return
            part = part.take(np.flatnonzero(seen))
            seen = np.ones(len(part), dtype=bool)
        measured = quality.measure(self._model.atlas, part, self._model.informative)
        self._measured.append(measured)
        if self._on_empty == "measure" and not seen.all():
            if not seen.any():
                return
            part = part.take(np.flatnonzero(seen))
            measured = measured.take(np.flatnonzero(seen))
        assessable = measured.assessable
        result = self._model.method.predict(part)
        names = part.samples.index
        self._tables.append(reported_table(result, names, assessable))
        self._figures.append(sample_figures(measured, result))
        self.findings += _findings(result, assessable, names)


def _findings(result: Deconvolution, assessable: np.ndarray, names: pd.Index) -> list[Finding]:
    """Return what the result itself makes doubtful."""
    found = []
    sure, hidden = result.certainty, hidden_tissues(result, assessable)
    for i, name in enumerate(map(str, names)):
        for t in np.flatnonzero(result.call[i] & ~assessable[i]):
            share = f"{result.tissues[t]}: the method gives it {result.proportions[i, t]:.1%}"
            reason = f"{share}, with few of its informative regions observed"
            reason += "; not reported" if hidden[i, t] else "; the other regions speak for it"
            found.append(Finding("warning", "markers", name, reason))
        if sure is None:
            continue
        unclear = np.flatnonzero(~result.call[i] & ~sure.assessable[i] & assessable[i])
        if unclear.size:
            listed = ", ".join(
                f"{result.tissues[t]} (limit of detection {sure.limit_of_detection[i, t]:.0%})"
                for t in unclear
            )
            found.append(Finding("warning", "limits", name, f"{NOT_ASSESSABLE}: {listed}"))
        if sure.out_of_atlas[i] > 0:
            reason = f"{sure.out_of_atlas[i]:.1%} of the DNA is of no tissue of the atlas"
            found.append(Finding("warning", "out of atlas", name, reason))
    return found
