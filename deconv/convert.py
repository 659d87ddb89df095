"""Files of any format into one file of region counts, several at a time.

Each file is read by a process of its own and its counts are put aside on disk, so that no
more than a file for each process is in memory; when all are read, and so all samples are
known, the counts are written in the order of the files.

Shape letters: R = regions.
"""

import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int

from deconv.counts import Samples
from deconv.errors import DeconvError, InputError, MismatchError
from deconv.formats import ReadOptions, find_format, open_counts
from deconv.genomes import naming_note
from deconv.regions import UNKNOWN_BUILD, RegionSet
from deconv.store import create_counts


@dataclass(frozen=True)
class Part:
    """What was read of one file; its counts lie in ``rows``, as `_put_aside` wrote them."""

    path: Path
    rows: Path
    samples: pd.DataFrame
    proportions: pd.DataFrame | None
    notes: tuple[str, ...]


def convert_files(
    paths: Sequence[Path],
    output: Path,
    *,
    regions: RegionSet | None = None,
    options: ReadOptions,
    min_overlap: float = 1.0,
    n_jobs: int | None = None,
    advance: Callable[[], object] = lambda: None,
) -> list[str]:
    """Write the samples of all files to an ``.h5ad``, which is whole or absent.

    Parameters
    ----------
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
    advance
        Called after each file.

    Returns
    -------
    Notes for people: per file how many samples and regions, what was assumed, what is empty.

    Raises
    ------
    DeconvError
        If a file is malformed or does not fit the regions, or two have the same sample.
    """
    if regions is None:
        regions = _own_regions(paths[0], options)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as folder:
        tasks = [
            (path, Path(folder) / str(i), regions, options, min_overlap)
            for i, path in enumerate(paths)
        ]
        n_processes = min(n_jobs or len(os.sched_getaffinity(0)), len(paths))
        parts = list(_in_order(tasks, n_processes, advance))
        samples, proportions = _join(parts)
        with create_counts(output, regions, samples, proportions) as writer:
            for part in parts:
                with part.rows.open("rb") as file:
                    for _ in range(len(part.samples)):
                        row = np.fromfile(file, dtype="<i4", count=2 * len(regions))
                        writer.append(*row.reshape(2, -1))
    return [f"{part.path}: {note}" for part in parts for note in part.notes]


def inferred_build(paths: Sequence[Path]) -> str:
    """Return the genome build that files tell at a glance, "unknown" if none does.

    Raises
    ------
    MismatchError
        If they tell different ones.
    """
    told: dict[str, Path] = {}
    for path in paths:
        told.setdefault(find_format(path).build_of(path), path)
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


Task = tuple[Path, Path, RegionSet, ReadOptions, float]


def _in_order(
    tasks: Sequence[Task], n_processes: int, advance: Callable[[], object]
) -> Iterator[Part]:
    if n_processes == 1:
        for task in tasks:
            yield _put_aside(*task)
            advance()
        return
    with _processes(n_processes) as pool:
        futures = [pool.submit(_put_aside, *task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
                advance()
        except BrokenProcessPool as error:
            raise DeconvError(
                "a process that read files was killed, perhaps for lack of memory",
                expected="fewer --jobs",
            ) from error
        yield from (future.result() for future in futures)


@contextmanager
def _processes(n: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool that is ended at once where something goes wrong."""
    # Not forked: a fork copies locks that threads of this process may hold.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _end_with_parent() -> None:
    """End this process when the one that started it does, even by ``kill -9``."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _put_aside(
    path: Path, rows: Path, regions: RegionSet, options: ReadOptions, min_overlap: float
) -> Part:
    """Read a file and write the counts of its samples, methylated then coverage, to ``rows``."""
    counts = open_counts(path, regions=regions, options=options)
    place, notes = _match(counts, regions, path, min_overlap)
    n_empty = []
    with rows.open("wb") as file:
        for pair in counts.rows():
            for values in pair:
                at_regions = np.where(place >= 0, values[place], 0).astype("<i4")
                file.write(at_regions.tobytes())
            n_empty.append(int((at_regions == 0).sum()))  # of coverage, which comes second
    return Part(
        path, rows, counts.samples, counts.proportions,
        (*notes, *counts.notes, _emptiness(n_empty, len(regions))),
    )  # fmt: skip


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


def _emptiness(n_empty: list[int], n_regions: int) -> str:
    low, high = min(n_empty), max(n_empty)
    n_samples = f"{len(n_empty)} sample{'s' * (len(n_empty) > 1)}"
    return (
        f"{n_samples}, {low if low == high else f'{low} to {high}'} of {n_regions} regions empty"
    )


def _join(parts: Sequence[Part]) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the sample tables and true proportions of all, which must fit together."""
    first_with: dict[str, Path] = {}
    for part in parts:
        for name in part.samples.index:
            if name in first_with:
                raise InputError(
                    "two files have the same sample", where=part.path, got=name,
                    expected=f"another name than in {first_with[name]}",
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
