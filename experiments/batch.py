"""Many files of a sample sheet, each analysed by itself: what is asked, and what is done.

A batch's folder has in ``.batch`` the plan (``plan.json``: sheet, model, settings, fixed when it
is begun), a result for each file of the sheet (`experiments.batch_results`), logs and scripts.
Work is divided by numbers alone, a share of the files each, and a file that has its result is
skipped: so a process may be killed, or run twice, at any point.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deconv.errors import CheckpointError, ConfigError, DeconvError, InputError, MismatchError
from deconv.files import write_text
from deconv.formats import make_options
from deconv.inputs import Source, is_sheet, read_sheet
from experiments.analysis import Part
from experiments.batch_results import Result, read_result, result_path, stamp, write_result
from experiments.fetch import is_registered
from experiments.models import Identity, Model, open_model
from experiments.predict import analyse_source

FORMAT_VERSION = 1
PLACE = ".batch"
_PLAN = "plan.json"


@dataclass(frozen=True)
class Asked:
    """What the user asks for.

    ``records`` is the folder in which predictions are recorded, with names or without.
    """

    sheet: str
    model: str
    build: str
    pseudo_coverage: int | None
    min_overlap: float
    records: str | None
    record_names: bool


@dataclass(frozen=True)
class Plan:
    """A batch as it was begun; the model is what its name meant then, in ``model_place``."""

    id: str
    asked: Asked
    sheet_sha256: str
    model_place: str
    identity: Identity
    facts: dict[str, str]
    notes: tuple[str, ...]


def has_plan(folder: Path) -> bool:
    """Whether a batch was begun in a folder."""
    return (folder / PLACE / _PLAN).is_file()


def begin(folder: Path, asked: Asked) -> Plan:
    """Begin a batch, or go on with the same one.

    Raises
    ------
    ConfigError
        If another batch was begun in the folder, or the model cannot be pinned.
    DeconvError
        If sheet or model cannot be read.
    """
    files_of(Path(asked.sheet))
    if has_plan(folder):
        plan = read_plan(folder)
        was, now = asdict(plan.asked), asdict(asked)
        differing = [name for name in now if now[name] != was[name]]
        if differing:
            name = differing[0]
            raise ConfigError(
                "another batch was begun here", where=folder, got=f"{name} {now[name]}",
                expected=f"{name} {was[name]}, or another folder",
            )  # fmt: skip
        return plan
    if ":/" in asked.model and not is_registered(asked.model):
        raise ConfigError(
            "a batch needs a model that stays where it is", got=asked.model,
            expected="models:/NAME@ALIAS, models:/NAME/VERSION, or a file or folder",
        )  # fmt: skip
    model = open_model(asked.model, build=asked.build, min_overlap=asked.min_overlap)
    plan = Plan(
        id=uuid.uuid4().hex,
        asked=asked,
        sheet_sha256=_hash(Path(asked.sheet)),
        model_place=str(model.place.absolute()),
        identity=model.identity,
        facts=dict(model.facts),
        notes=model.notes,
    )
    content = {"format_version": FORMAT_VERSION, **asdict(plan)}
    write_text(folder / PLACE / _PLAN, json.dumps(content, indent=1))
    return plan


def read_plan(folder: Path) -> Plan:
    """Read the plan of a batch, whose sheet has to be as it was.

    Raises
    ------
    InputError
        If none was begun here, or its sheet changed.
    """
    path = folder / PLACE / _PLAN
    if not path.is_file():
        raise InputError("no batch was begun here", where=folder, expected="deconv batch SHEET -o")
    content: dict[str, Any] = json.loads(path.read_text())
    version = content.pop("format_version")
    if version != FORMAT_VERSION:
        raise InputError("a plan of another version", where=path, got=version)
    parts = {
        "asked": Asked(**content["asked"]),
        "identity": Identity(**content["identity"]),
        "notes": tuple(content["notes"]),
    }
    plan = Plan(**{**content, **parts})
    sheet = Path(plan.asked.sheet)
    if not sheet.is_file() or _hash(sheet) != plan.sheet_sha256:
        raise InputError(
            "the sheet is not the one that the batch was begun with", where=sheet,
            expected=f"it as it was, or another folder than {folder}",
        )  # fmt: skip
    return plan


def files_of(sheet: Path) -> list[Source]:
    """Return the files of a sheet, whether they are there or not.

    Raises
    ------
    InputError
        If it is no sample sheet, or malformed.
    """
    if not sheet.is_file() or not is_sheet(sheet):
        raise InputError(
            "no sample sheet", where=sheet, expected="a CSV or TSV with columns sample and path"
        )
    return read_sheet(sheet, need_files=False)


def open_planned(plan: Plan) -> Model:
    """Open a batch's model, wherever its name points by now.

    Raises
    ------
    CheckpointError
        If it is not where it was, or not what it was.
    """
    place = Path(plan.model_place)
    if not place.exists():
        raise CheckpointError(
            "the batch's model is not there", where=place,
            expected="a disk that this machine sees too (DECONV_CACHE says where models are kept)",
        )  # fmt: skip
    asked = plan.asked
    model = open_model(str(place), build=asked.build, min_overlap=asked.min_overlap)
    if model.identity.sha256 != plan.identity.sha256:
        raise CheckpointError(
            "the batch's model changed", where=place, got=model.identity.sha256,
            expected=plan.identity.sha256,
        )  # fmt: skip
    return replace(model, identity=plan.identity, facts=plan.facts, notes=plan.notes)


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


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
