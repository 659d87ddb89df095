"""The sending of what a tracking store lacks of a run's record.

The training process sends with this while it trains, and `deconv sync` afterwards.
"""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.tracking import MlflowClient

from deconv.errors import ConfigError, InputError
from experiments.replay import Replay, batches
from experiments.sent import SENT, Position, check_whole
from experiments.spool import SPOOL, Entry, read_spool
from experiments.store import (
    AwayError,
    RefusedError,
    TrackingError,
    open_store,
    retry_ourselves,
    store_name,
    tracking_errors,
)

SENDING = "sending.lock"


class Outbox:
    """The way of one run's record to the present store.

    Parameters
    ----------
    entries
        The record; it may grow.
    """

    def __init__(self, folder: Path, entries: Sequence[Entry]) -> None:
        retry_ourselves()
        self._folder, self._entries = folder, entries
        self._uri, self._store = mlflow.get_tracking_uri(), store_name()
        self._is_checked = False
        self.position = Position.load(folder, self._store)
        self.retry_refused = True
        """Whether the next sending asks again for what was refused."""

    @property
    def n_left(self) -> int:
        """Lines that the store does not have."""
        return max(len(self._entries) - self.position.seq, 0) + len(self.position.aside)

    def send(self) -> None:
        """Send what the store does not have; what it refuses is put aside.

        Raises
        ------
        TrackingError
            If the store is away, or another process is sending this record.
        """
        with _sending(self._folder):
            self.position = position = Position.load(self._folder, self._store)
            pending = self._entries[position.seq :]
            if not pending and not (self.retry_refused and position.aside):
                return
            client = open_store(self._uri)
            with tracking_errors("the tracking store does not take the run's record"):
                self._check(client)
                replay = Replay(client, self._folder, self._entries, position.run_id)
            if self.retry_refused:
                for seq in list(position.aside):
                    self._tell(replay, [self._entries[int(seq) - 1]])
                self.retry_refused = False
            for batch in batches(pending):
                self._tell(replay, batch)

    def _tell(self, replay: Replay, batch: list[Entry]) -> None:
        position, entry = self.position, batch[0]
        try:
            with tracking_errors("the tracking store does not take the run's record"):
                replay.tell(batch)
        except RefusedError as error:
            if len(batch) > 1:
                for single in batch:
                    self._tell(replay, [single])
                return
            if entry.kind == "run":  # without it, nothing has a place
                raise TrackingError(str(error)) from error
            position.aside[str(entry.seq)] = str(error)
        else:
            position.aside.pop(str(entry.seq), None)
        position.run_id = replay.run_id
        position.seq = max(position.seq, batch[-1].seq)
        try:
            position.save(self._folder, self._store)
        except OSError as error:
            raise TrackingError(
                "cannot note what was sent", where=self._folder / SENT, got=error.strerror
            ) from error

    def _check(self, client: MlflowClient) -> None:
        """See once that the run is still in the store, which may be an older copy of itself."""
        run_id = self.position.run_id
        if self._is_checked or not run_id:
            return
        hint = f"deconv sync --from-start {self._folder}, which sends it whole as a new run"
        try:
            with tracking_errors("the tracking store does not know the run"):
                stage = client.get_run(run_id).info.lifecycle_stage
        except RefusedError as error:
            raise TrackingError(str(error), expected=hint) from error
        if stage != "active":
            raise TrackingError(
                "the run was deleted in MLflow", where=self._store, got=run_id,
                expected=f"mlflow runs restore --run-id {run_id}, or {hint}",
            )  # fmt: skip
        self._is_checked = True


@contextmanager
def _sending(folder: Path) -> Iterator[None]:
    """Keep a second sender out; a dead process holds nothing."""
    try:
        file = (folder / SENDING).open("w")
    except OSError as error:
        raise TrackingError("cannot use the run's folder", where=folder, got=error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError("another process is sending this run", where=folder) from error
        yield


class BusyError(TrackingError):
    """Another process is sending the same run; it sends everything."""


@dataclass(frozen=True)
class Synced:
    """What became of a folder: lines sent now, lines left, the run, and what went wrong.

    ``is_away``: the store takes nothing, and need not be asked about other runs.
    """

    folder: Path
    n_sent: int
    n_left: int
    run_id: str
    problems: list[str]
    is_away: bool


def sync_folder(folder: Path, *, from_start: bool = False) -> Synced:
    """Send what the present store lacks of a run.

    Parameters
    ----------
    from_start
        Send everything again: after the store lost the run, or was put back from a backup.

    Raises
    ------
    BusyError
        If another process is at it.
    ConfigError
        If it is not a run's folder.
    """
    if not (folder / SPOOL).is_file():
        raise ConfigError("no record of a run", where=folder, expected=f"a folder with {SPOOL}")
    entries, problems = [], []
    try:
        for entry in read_spool(folder / SPOOL):
            entries.append(entry)
        check_whole(folder, len(entries))
    except InputError as error:
        problems.append(str(error))
    if from_start:
        with _sending(folder):
            Position().save(folder, store_name())
    outbox = Outbox(folder, entries)
    before = outbox.n_left
    is_away = False
    try:
        outbox.send()
    except BusyError:
        raise
    except TrackingError as error:
        problems.append(str(error))
        is_away = isinstance(error, AwayError)
    problems += outbox.position.aside.values()
    n_left = outbox.n_left
    return Synced(folder, before - n_left, n_left, outbox.position.run_id, problems, is_away)


def spools_in(directory: Path) -> list[Path]:
    """Return the folders of runs in a directory, oldest name first.

    Raises
    ------
    ConfigError
        If there is no such directory.
    """
    if not directory.is_dir():
        raise ConfigError("no such folder of runs", where=directory.absolute())
    return sorted(path.parent for path in directory.glob(f"*/{SPOOL}"))
