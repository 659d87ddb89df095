"""What a batch is to do: the sheet, the model and the settings, fixed when it is begun."""

import json
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deconv.errors import CheckpointError, ConfigError, InputError
from deconv.files import file_hash, write_text
from deconv.inputs import Source, is_sheet, read_sheet
from experiments.fetch import is_registered
from experiments.models import Identity, Model, open_model

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
        sheet_sha256=file_hash(Path(asked.sheet)),
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
    if not sheet.is_file() or file_hash(sheet) != plan.sheet_sha256:
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
