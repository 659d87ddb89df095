"""Files of any format into one file of region counts, several at a time, and checked.

Each file is read by a process of its own and its counts are put aside on disk, so that no
more than a file for each process is in memory; when all are read, and so all samples are
known, the counts are written in the order of the files.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from deconv import quality
from deconv.alike import compare_samples
from deconv.aside import Part, Task, Yardstick, put_aside, rows_of
from deconv.counts import Samples
from deconv.errors import InputError, MismatchError
from deconv.findings import Finding, find
from deconv.formats import ReadOptions, find_format, open_counts
from deconv.inputs import Source, find_sources
from deconv.processes import in_order
from deconv.quality import Measured
from deconv.regions import UNKNOWN_BUILD, RegionSet
from deconv.staging import staging_folder
from deconv.store import create_counts


@dataclass(frozen=True)
class Converted:
    """What there is to say of the samples that were written.

    ``notes`` say per file how many samples and regions, what was assumed, what is empty.
    """

    notes: list[str]
    measured: Measured
    findings: list[Finding]


def convert_files(
    paths: Sequence[Path],
    output: Path,
    *,
    regions: RegionSet | None = None,
    options: ReadOptions,
    min_overlap: float = 1.0,
    n_jobs: int | None = None,
    yardstick: Yardstick | None = None,
    label: Callable[[Samples, Source], Samples] | None = None,
    advance: Callable[[int, int], object] = lambda n_done, n_files: None,
) -> Converted:
    """Write the samples of all files to an ``.h5ad``, which is whole or absent.

    Parameters
    ----------
    paths
        Files of samples, and sheets that list them.
    regions
        Where to count. Without them, the first file must hold regions of its own, which
        are then those of all.
    options
        What the files do not say themselves.
    min_overlap
        Smallest share of the regions that a file with regions of its own must have; where
        it lacks one, that is not observed.
    n_jobs
        Processes that read; by default one for each core, and never more than files.
    yardstick
        What to compare the samples with, for what an atlas alone can tell.
    label
        Gives the pure samples of a file the table that is written; a function of a module.
        True proportions are not kept then.
    advance
        Told how many of how many files are done.

    Raises
    ------
    DeconvError
        If a file is malformed or does not fit the regions, or two have the same sample.
    """
    sources = find_sources(paths)
    if regions is None:
        regions = _own_regions(sources[0].path, options)
    if yardstick is not None:  # refused before all is read
        yardstick.atlas.regions.find_in(regions, where="the regions", min_overlap=min_overlap)
    with staging_folder(output.parent) as folder:
        tasks = [
            Task(source, folder / str(i), regions, options, min_overlap, yardstick, label)
            for i, source in enumerate(sources)
        ]
        n_processes = min(n_jobs or len(os.sched_getaffinity(0)), len(sources))
        parts = list(in_order(put_aside, tasks, n_processes, advance))
        samples, proportions = _join(parts)
        with create_counts(folder / "whole.h5ad", regions, samples, proportions) as writer:
            for row in rows_of(parts, len(regions)):
                writer.append(*row)
        alike = compare_samples(lambda: rows_of(parts, len(regions)), len(regions))
        (folder / "whole.h5ad").replace(output)
    measured = quality.join([part.measured for part in parts])
    measured = replace(measured, alike=alike)
    notes = [f"{part.path}: {note}" for part in parts for note in part.notes]
    if regions.build == UNKNOWN_BUILD:
        notes.append(
            f"{output}: the genome build is not known: state it (--build), here or where the file"
            " is used"
        )
    return Converted(notes, measured, find(measured))


def inferred_build(paths: Sequence[Path]) -> str:
    """Return the genome build that files tell at a glance, "unknown" if none does.

    Raises
    ------
    MismatchError
        If they tell different ones.
    """
    told: dict[str, Path] = {}
    for source in find_sources(paths):
        told.setdefault(find_format(source.path).build_of(source.path), source.path)
    told.pop(UNKNOWN_BUILD, None)
    if len(told) > 1:
        (build, path), (other, other_path) = list(told.items())[:2]
        raise MismatchError(
            "the files are of different genome builds", where=other_path, got=other,
            expected=f"{build}, as {path} is of",
        )  # fmt: skip
    return next(iter(told), UNKNOWN_BUILD)


def _own_regions(path: Path, options: ReadOptions) -> RegionSet:
    found = find_format(path)
    if found.needs != "nothing":
        raise InputError(
            f"{found.name} holds no regions", where=path, expected="regions to count in"
        )
    return open_counts(path, options=options).regions


def _join(parts: Sequence[Part]) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the sample tables and true proportions of all, which must fit together."""
    first_with: dict[str, Path] = {}
    for part in parts:
        for name in part.samples.index:
            if name in first_with:
                raise InputError(
                    "two files have the same sample", where=part.path, got=name,
                    expected=f"another name than in {first_with[name]}"
                    " (a sample sheet can give one)",
                )  # fmt: skip
            first_with[name] = part.path
    samples = pd.concat([part.samples for part in parts])
    known = [part.proportions for part in parts if part.proportions is not None]
    if not known:
        return samples, None
    if len(known) < len(parts):
        lacking = next(part.path for part in parts if part.proportions is None)
        raise MismatchError("some files have true proportions, others not", where=lacking)
    if any(set(p.columns) != set(known[0].columns) for p in known):
        raise MismatchError("the files have true proportions of different tissues")
    return samples, pd.concat([p[known[0].columns] for p in known])
