"""Add to the record of a run from outside its training: a study's run, or what a study found."""

import fcntl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.lineage import run_line
from experiments.provenance import code_tags, machine_tags
from experiments.sent import known_run_ids
from experiments.spool import SPOOL, Spool
from experiments.sync import BusyError, sync_folder

_PAUSE = 0.5  # seconds before the store is asked again


@dataclass(frozen=True)
class Notes:
    """What to add; what is there already as it is stays as it is. Files are in the folder."""

    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    """Content hash of each file, by its path in the folder."""
    status: str | None = None


def add_notes(
    folder: Path, notes: Notes, *, begin: tuple[str, str] | None = None, patience: float = 10.0
) -> str | None:
    """Record notes and send them; return MLflow's id of the run, None while no store knows it.

    Parameters
    ----------
    folder
        Of the run. Nobody else may be writing its record but through this function.
    begin
        Name and experiment of a run that is only noted about, to begin it with.
    patience
        Seconds to try again for, if the store is away or busy.

    Raises
    ------
    DeconvError
        If the record is damaged or the disk full; a store that is away is no error.
    """
    with (folder / "notes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        spool = Spool(folder / SPOOL)
        if begin is not None and spool.last("run") is None:
            name, experiment = begin
            spool.append("run", **run_line(name, experiment, {**code_tags(), **machine_tags()}))
        for kind, data in _lines(notes):
            key = data.get("path", data.get("step", ""))
            last = spool.last(kind, key)
            if last is None or last.data != data:
                spool.append(kind, **data)
        return send_all(folder, patience)


def send_all(folder: Path, patience: float = 10.0) -> str | None:
    """Send what the store lacks of a run, trying again for some seconds; return the run's id."""
    until = time.monotonic() + patience
    while True:
        try:
            synced = sync_folder(folder)
            if not synced.n_left or time.monotonic() > until:
                return synced.run_id or None
        except BusyError:  # `deconv sync`, which sends everything
            if time.monotonic() > until:
                return next(iter(known_run_ids(folder)), None)
        time.sleep(_PAUSE)


def _lines(notes: Notes) -> Sequence[tuple[str, dict[str, object]]]:
    lines: list[tuple[str, dict[str, object]]] = []
    if notes.params:
        lines.append(("params", {"params": dict(notes.params)}))
    if notes.tags:
        lines.append(("tags", {"tags": dict(notes.tags)}))
    if notes.metrics:
        lines.append(("metrics", {"step": notes.step, "metrics": dict(notes.metrics)}))
    lines += [("file", {"path": p, "sha256": h}) for p, h in notes.files.items()]
    if notes.status is not None:
        lines.append(("status", {"status": notes.status}))
    return lines
