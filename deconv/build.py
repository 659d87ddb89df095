"""Atlases from files of pure samples, each kept as a sample of its own."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from deconv.convert import convert_files
from deconv.counts import RegionCounts, Samples
from deconv.errors import from_file
from deconv.formats import ReadOptions
from deconv.formats.atlases import open_atlas
from deconv.formats.counts_tsv import labelled
from deconv.formats.region_file import read_regions
from deconv.inputs import Source, is_sheet
from deconv.reference import Reference
from deconv.regions import UNKNOWN_BUILD
from deconv.staging import staging_folder
from deconv.stored import open_h5ad


def build_reference(
    paths: Sequence[Path],
    *,
    labels: Path | None = None,
    regions_path: Path | None = None,
    build: str = UNKNOWN_BUILD,
    folder: Path = Path(),
    pseudo_coverage: int | None = None,
    n_jobs: int | None = None,
    advance: Callable[[int, int], object] = lambda n_done, n_files: None,
) -> Reference:
    """Make a reference of pure samples, or open a single atlas.

    However many samples there are, a few are in memory at a time: all lie in a file.

    Parameters
    ----------
    paths
        Files of samples or sample sheets; or one atlas, see `open_atlas`.
    labels
        Table of tissues and donors, for samples that do not state them.
    regions_path
        Where to count, for files that hold single CpGs or reads.
    folder
        Where that file lies until the reference is forgotten, without a name.
    pseudo_coverage
        See `ReadOptions`.
    n_jobs, advance
        See `convert_files`.

    Returns
    -------
    The reference; the ``notes`` of its donors say how the files were read, and what is wrong
    with them.

    Raises
    ------
    DeconvError
        If a file is malformed, names no tissue, or has other regions than the first.
    """
    if len(paths) == 1 and regions_path is None and not is_sheet(paths[0]) and _is_atlas(paths[0]):
        return open_atlas(paths[0], build=build, labels=labels, pseudo_coverage=pseudo_coverage)
    regions = None if regions_path is None else read_regions(regions_path, build=build)
    options = ReadOptions(build=build, pseudo_coverage=pseudo_coverage)
    with staging_folder(folder) as staging:
        done = convert_files(
            paths, staging / "donors.h5ad", regions=regions, options=options,
            n_jobs=n_jobs, label=partial(_labelled, labels=labels), advance=advance,
        )  # fmt: skip
        serious = [f for f in done.findings if f.severity != "note"]
        wrong = [f"{f.severity}: {f.sample}: {f.reason}" for f in serious]
        donors = replace(open_h5ad(staging / "donors.h5ad"), notes=(*done.notes, *wrong))
        with from_file(", ".join(map(str, paths[:3]))):
            return Reference(donors=donors)


def concatenate(parts: Sequence[RegionCounts]) -> RegionCounts:
    """Join samples of several files at the regions of the first.

    Raises
    ------
    MismatchError
        If another file lacks some of them.
    InputError
        If two files have the same sample.
    """
    first, *others = parts
    aligned = [first, *(part.at_regions(first.regions) for part in others)]
    return replace(
        first,
        methylated=np.concatenate([part.methylated for part in aligned]),
        coverage=np.concatenate([part.coverage for part in aligned]),
        samples=pd.concat([part.samples for part in aligned]),
        proportions=None,
    )


def _is_atlas(path: Path) -> bool:
    """Whether a file must be an atlas or several samples, not a single one's data."""
    return path.name.lower().removesuffix(".gz").endswith((".h5ad", ".tsv", ".txt", ".csv"))


def _labelled(counts: Samples, source: Source, *, labels: Path | None) -> Samples:
    found = labelled(counts, labels, where=source.path)
    return found.labelled(found.samples[["tissue", "donor"]])
