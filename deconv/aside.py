"""A file's counts put aside on disk, with what was measured of its samples on the way.

Shape letters: R = regions, T = tissues.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from deconv import quality
from deconv.atlas import Atlas
from deconv.counts import RegionCounts, Row, Samples
from deconv.formats import ReadOptions
from deconv.genomes import naming_note
from deconv.inputs import Source
from deconv.quality import Measured
from deconv.regions import RegionSet

_CHUNK = 16  # samples that are measured at a time


@dataclass(frozen=True, eq=False)
class Yardstick:
    """An atlas that samples are compared with; ``informative`` regions of each tissue [T, R]."""

    atlas: Atlas
    informative: Bool[np.ndarray, "T R"]


@dataclass(frozen=True, eq=False)
class Task:
    """A file to be read, and how; its counts go to ``rows``."""

    source: Source
    rows: Path
    regions: RegionSet
    options: ReadOptions
    min_overlap: float
    yardstick: Yardstick | None
    label: Callable[[Samples, Source], Samples] | None


@dataclass(frozen=True, eq=False)
class Part:
    """What was read of one file; its counts lie in ``rows``, as `put_aside` wrote them."""

    path: Path
    rows: Path
    samples: pd.DataFrame
    proportions: pd.DataFrame | None
    notes: tuple[str, ...]
    measured: Measured


def put_aside(task: Task) -> Part:
    """Read a file, measure its samples and write their counts, methylated then coverage."""
    path, regions = task.source.path, task.regions
    counts = task.source.open(regions, task.options)
    place, notes = _match(counts, regions, path, task.min_overlap)
    measured = []
    held: list[Row] = []
    with task.rows.open("wb") as file:
        for n_read, (methylated, coverage) in enumerate(counts.rows(), start=1):
            pair = (
                np.where(place >= 0, methylated[place], 0).astype("<i4"),
                np.where(place >= 0, coverage[place], 0).astype("<i4"),
            )
            for values in pair:
                file.write(values.tobytes())
            held.append(pair)
            if len(held) == _CHUNK or n_read == len(counts):
                samples = counts.samples.iloc[n_read - len(held) : n_read]
                measured.append(_measured(held, regions, samples, task))
                held.clear()
    whole = quality.join(measured)
    labelled = counts if task.label is None else task.label(counts, task.source)
    return Part(
        path, task.rows, labelled.samples, counts.proportions if task.label is None else None,
        (*notes, *counts.notes, _emptiness(whole)), whole,
    )  # fmt: skip


def _measured(
    rows: Sequence[Row], regions: RegionSet, samples: pd.DataFrame, task: Task
) -> Measured:
    methylated, coverage = (np.stack(arrays) for arrays in zip(*rows, strict=True))
    counts = RegionCounts(methylated, coverage, regions, samples)
    measured = quality.measure_counts(counts)
    if task.yardstick is None:
        return measured
    atlas = task.yardstick.atlas
    there = counts.at_regions(atlas.regions, min_overlap=task.min_overlap)
    return quality.with_tissues(measured, atlas, there, task.yardstick.informative)


def rows_of(parts: Sequence[Part], n_regions: int) -> Iterator[Row]:
    """Yield the counts that were put aside, in the order of the files."""
    for part in parts:
        with part.rows.open("rb") as file:
            for _ in range(len(part.samples)):
                row = np.fromfile(file, dtype="<i4", count=2 * n_regions).reshape(2, -1)
                yield row[0], row[1]


def _match(
    counts: Samples, regions: RegionSet, path: Path, min_overlap: float
) -> tuple[Int[np.ndarray, " R"], list[str]]:
    """Return where each region is among those of the counts, and what to say of it."""
    if counts.regions.is_same(regions):
        return np.arange(len(regions)), []
    place = regions.find_in(counts.regions, where=path, min_overlap=min_overlap)
    n_found = int((place >= 0).sum())
    note = f"{n_found} of {len(regions)} regions are among its {len(counts.regions)}"
    names = naming_note(counts.regions.chrom.tolist(), regions.chrom.tolist())
    return place, [note, *names]


def _emptiness(measured: Measured) -> str:
    n_empty = measured.n_regions - measured.table["n_observed"]
    low, high = n_empty.min(), n_empty.max()
    n_samples = f"{len(n_empty)} sample{'s' * (len(n_empty) > 1)}"
    range_ = low if low == high else f"{low} to {high}"
    return f"{n_samples}, {range_} of {measured.n_regions} regions empty"
