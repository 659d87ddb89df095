"""A run's own record: append-only lines on disk, written before anything else.

Tracking servers are away and drop points; this file is what is replayed to them. A line is JSON
with a number, a time, a kind, the data, and a checksum of what stands before it:

``{"seq":7,"at":1764144000123,"kind":"metrics","data":{...},"crc":"90ab12cd"}``

Line 1 is of kind ``run`` and has the format's version; `experiments.replay` says what the kinds
have.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconv.errors import DeconvError, InputError
from experiments.sealed import sealed, unsealed

if TYPE_CHECKING:  # torch is slow to import, and reading a record does not need it
    from deconv.train import Metrics

FORMAT_VERSION = 1
SPOOL = "spool.jsonl"
_KEY = {"metrics": "step", "file": "path", "alert": "event"}


@dataclass(frozen=True)
class Entry:
    """A line: its number from 1, milliseconds since 1970, kind and data."""

    seq: int
    at: int
    kind: str
    data: dict[str, Any]

    @property
    def key(self) -> str:
        """What the line is about, among lines of its kind: epoch, path or event."""
        return str(self.data[_KEY[self.kind]]) if self.kind in _KEY else ""

    def encoded(self) -> bytes:
        """Return the line."""
        return sealed(vars(self))


class Spool:
    """The record of a run, for the one process that writes it.

    Times grow from line to line even if the clock is set back, so that the order in a curve is
    the order in which it was made. A last line that a crash cut off is dropped.

    Parameters
    ----------
    now
        Milliseconds since 1970.
    say
        Told what the user should know.

    Raises
    ------
    InputError
        If a line is damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._path, self._now, self._say = path, now, say
        self.entries: list[Entry] = []
        """All lines that are safely on disk; grows."""
        self.points: dict[int, Metrics] = {}
        """The metrics of each epoch."""
        self._last: dict[tuple[str, str], Entry] = {}
        self._size, self._clock_told, self._is_torn = 0, False, False
        if path.exists():
            for entry in read_spool(path):
                self._keep(entry)
            torn = path.stat().st_size - self._size
            if torn:
                say(f"{path}: dropped {torn} bytes of a line that a crash cut off")
                os.truncate(path, self._size)

    def last(self, kind: str, key: object = "") -> Entry | None:
        """Return the latest line of a kind, about an epoch, path or event."""
        return self._last.get((kind, str(key)))

    def append(self, kind: str, **data: Any) -> Entry:
        """Record something; on disk when this returns.

        Raises
        ------
        DeconvError
            If the disk does not take it; what was recorded before is whole.
        """
        at, previous = self._now(), self.entries[-1].at if self.entries else 0
        if at <= previous:
            if previous - at > 1000 and not self._clock_told:
                self._clock_told = True
                self._say(f"the clock went back {(previous - at) / 1000:.0f} s; order is kept")
            at = previous + 1
        # As it will be read again, so that a run sent now and one sent later are the same.
        entry = Entry(len(self.entries) + 1, at, kind, json.loads(json.dumps(data)))
        try:
            if self._is_torn:
                os.truncate(self._path, self._size)
            with self._path.open("ab") as file:
                file.write(entry.encoded())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            self._is_torn = self._path.exists()  # a part of the line may be there
            with suppress(OSError):  # of a disk that became read-only; then it is done later
                os.truncate(self._path, self._size)
            raise DeconvError(
                "cannot write the run's record", where=self._path, got=error.strerror,
                expected=f"space to write; then deconv train --resume {self._path.parent}",
            ) from error  # fmt: skip
        self._is_torn = False
        self._keep(entry)
        return entry

    def _keep(self, entry: Entry) -> None:
        self._size += len(entry.encoded())
        self._last[entry.kind, entry.key] = entry
        if entry.kind == "metrics":
            self.points.setdefault(entry.data["step"], entry.data["metrics"])
        self.entries.append(entry)


def read_spool(path: Path) -> Iterator[Entry]:
    """Yield the lines of a spool; a last one without its end is not there.

    Raises
    ------
    InputError
        At a line that is damaged or not the next; those before it were yielded.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            content = unsealed(line)
            if content is None:
                raise InputError("the record is damaged", where=f"{path}, line {number}")
            if content["seq"] != number:
                raise InputError(
                    "lines of the record are missing", where=f"{path}, line {number}",
                    got=f"number {content['seq']}", expected=number,
                )  # fmt: skip
            if number == 1 and content["data"].get("version") != FORMAT_VERSION:
                raise InputError(
                    "a record of another version", where=path,
                    got=content["data"].get("version"), expected=FORMAT_VERSION,
                )  # fmt: skip
            yield Entry(**content)
