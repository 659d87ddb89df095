"""What of a run's record each tracking store has, as the run's folder says."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deconv.errors import InputError
from deconv.files import write_text
from experiments.spool import SPOOL
from experiments.store import store_name

SENT = "sent.json"


@dataclass
class Position:
    """How much of a record a store has: lines up to ``seq``, but those put ``aside``."""

    run_id: str = ""
    seq: int = 0
    aside: dict[str, str] = field(default_factory=dict)
    """Why the store refused a line, by its number."""

    @classmethod
    def load(cls, folder: Path, store: str) -> "Position":
        """Read it; nothing was sent to a store that the folder does not know."""
        return cls(**_read(folder).get(store, {}))

    def save(self, folder: Path, store: str) -> None:
        """Write it, whole or not at all."""
        write_text(folder / SENT, json.dumps({**_read(folder), store: asdict(self)}, indent=1))


def _read(folder: Path) -> dict[str, Any]:
    reason: object = "not positions by store"
    try:
        content = json.loads((folder / SENT).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = error
    else:
        if isinstance(content, dict) and all(map(_is_position, content.values())):
            return content
    raise InputError(
        "not readable", where=folder / SENT, got=reason,
        expected="no file (what was sent is then sent again, which does no harm)",
    )  # fmt: skip


def _is_position(found: object) -> bool:
    shape = {"run_id": str, "seq": int, "aside": dict}
    return (
        isinstance(found, dict)
        and found.keys() == shape.keys()
        and all(isinstance(found[name], kind) for name, kind in shape.items())
    )


def known_run_ids(folder: Path) -> list[str]:
    """Return the MLflow ids of a run, that in the present store first."""
    content, present = _read(folder), store_name()
    stores = sorted(content, key=lambda store: store != present)
    return [content[store]["run_id"] for store in stores if content[store]["run_id"]]


def check_whole(folder: Path, n_lines: int) -> None:
    """Refuse a record that is shorter than what a store has of it.

    Raises
    ------
    InputError
        If it is.
    """
    n_sent = max((position["seq"] for position in _read(folder).values()), default=0)
    if n_sent > n_lines:
        raise InputError(
            "lines are missing at the end", where=folder / SPOOL, got=n_lines,
            expected=f"{n_sent}, which a tracking store has",
        )  # fmt: skip
