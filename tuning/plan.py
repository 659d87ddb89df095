"""Trials whose settings are given, not sampled, in a file of a study's folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deconv.files import write_text

_PLAN = "plan.json"


@dataclass(frozen=True)
class Planned:
    """A trial whose settings are given, not sampled: one of the end of a study."""

    label: str
    seed: int
    overrides: tuple[str, ...]


def write_plan(folder: Path, plan: Sequence[Planned]) -> None:
    """Write the trials of a study."""
    write_text(folder / _PLAN, json.dumps([asdict(p) for p in plan], indent=1))


def read_plan(folder: Path) -> list[Planned]:
    """Read them; none if the study is a search."""
    file = folder / _PLAN
    entries = json.loads(file.read_text()) if file.exists() else []
    return [Planned(**{**entry, "overrides": tuple(entry["overrides"])}) for entry in entries]
