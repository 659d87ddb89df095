"""Many files of a sample sheet, each analysed by itself: what is done, and what is to do.

A batch's folder has in ``.batch`` the plan (`experiments.batch_plan`), a result for each file of
the sheet (`experiments.batch_results`), logs and scripts. Work is divided by numbers alone, a
share of the files each, and a file that has its result is skipped: so a process may be killed,
or run twice, at any point.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from deconv.errors import DeconvError, MismatchError
from deconv.formats import make_options
from deconv.inputs import Source
from experiments.analysis import Part
from experiments.batch_plan import PLACE, Plan, files_of, open_planned, read_plan
from experiments.batch_results import Result, read_result, result_path, stamp, write_result
from experiments.models import Model
from experiments.predict import analyse_source


def share(number: int, of: int, n_files: int) -> range:
    """Return the files of the share with a number from 0."""
    return range(number * n_files // of, (number + 1) * n_files // of)


def missing(folder: Path, plan: Plan) -> list[int]:
    """Return the files without a result, or that changed since."""
    sources = files_of(Path(plan.asked.sheet))
    return [n for n, source in enumerate(sources) if _result(folder, plan, n, source) is None]


def failing(folder: Path, plan: Plan) -> list[int]:
    """Return the files of which a sample could not be analysed."""
    sources = files_of(Path(plan.asked.sheet))
    found = [_result(folder, plan, n, source) for n, source in enumerate(sources)]
    return [n for n, result in enumerate(found) if result is not None and result.failed]


def _result(folder: Path, plan: Plan, number: int, source: Source) -> Result | None:
    """Return a file's result, None if it is not of this batch and the file as it is now."""
    found = read_result(folder / PLACE, number)
    is_ours = found is not None and (found.plan, found.stamp) == (plan.id, stamp(source))
    return found if is_ours else None


def forget(folder: Path, numbers: list[int]) -> None:
    """Remove results, so that their files are analysed again."""
    for number in numbers:
        result_path(folder / PLACE, number).unlink(missing_ok=True)


def work(
    folder: Path,
    number: int,
    of: int,
    *,
    parent: int | None = None,
    advance: Callable[[int, int], None] = lambda n_done, n_files: None,
) -> None:
    """Analyse those files of a share that have no result yet.

    Parameters
    ----------
    parent
        Process that started this one: without it, no further file is begun.
    advance
        Told how many files of how many are done.
    """
    plan = read_plan(folder)
    sources = files_of(Path(plan.asked.sheet))
    model = None
    files = share(number, of, len(sources))
    for n_done, index in enumerate(files):
        advance(n_done, len(files))
        if _result(folder, plan, index, sources[index]) is not None:
            continue
        if parent is not None and os.getppid() != parent:
            raise DeconvError("the process that shares out the work is gone", where=folder)
        model = open_planned(plan) if model is None else model
        write_result(folder / PLACE, index, _analyse(plan, model, sources[index]))


def _analyse(plan: Plan, model: Model, source: Source) -> Result:
    asked, seen = plan.asked, stamp(source)
    options = make_options(build=asked.build, pseudo_coverage=asked.pseudo_coverage)
    assert source.rows is not None
    names = [str(name) for name in source.rows.index]
    try:
        part, empty = analyse_source(source, model, options=options, min_overlap=asked.min_overlap)
        failed = dict.fromkeys(empty, "no coverage in any region of the model")
    except (DeconvError, OSError) as error:  # of this file; the others go on
        part, failed = Part.nothing(), dict.fromkeys(names, str(error))
    return Result.now(plan.id, seen, part, failed)


def results(folder: Path, plan: Plan) -> Iterator[tuple[Source, Result]]:
    """Yield all files with their results.

    Raises
    ------
    MismatchError
        If some have none.
    """
    sources = files_of(Path(plan.asked.sheet))
    found = [_result(folder, plan, number, source) for number, source in enumerate(sources)]
    n_waiting = sum(result is None for result in found)
    if n_waiting:
        raise MismatchError(
            "the batch is not finished", where=folder, got=f"{n_waiting} file(s) to go",
            expected=f"deconv batch {folder}",
        )  # fmt: skip
    yield from ((s, r) for s, r in zip(sources, found, strict=True) if r is not None)
