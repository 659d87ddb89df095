"""Samples of files deconvolved and measured, a batch in memory at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from deconv import quality
from deconv.counts import RegionCounts, Samples
from deconv.errors import InputError
from deconv.findings import Finding
from deconv.formats import ReadOptions
from deconv.genomes import naming_note
from deconv.inference import BATCH_SIZE
from deconv.inputs import Source
from deconv.predictor import Deconvolution
from deconv.quality import Measured
from deconv.regions import UNKNOWN_BUILD
from deconv.reported import NOT_ASSESSABLE, hidden_tissues, reported_table
from deconv.trained_range import sample_figures
from experiments.models import Model


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


class Analysis:
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
        there = counts.regions
        notes = [*counts.notes, *naming_note(there.chrom.tolist(), wanted.chrom.tolist())]
        if wanted.build == UNKNOWN_BUILD != there.build:
            notes.append(f"the model's genome build is not known; the file's is {there.build}")
        self._notes += [f"{source.path}: {note}" for note in notes]

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
