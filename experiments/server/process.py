"""The processes of a server: found by a mark in their environment, never by number alone."""

import fcntl
import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from deconv.errors import ConfigError, DeconvError
from deconv.files import write_text
from experiments.server.settings import ServerSettings

MARK = "DECONV_SERVER_ID"
"""An environment variable that all processes of a server have; numbers get used again."""


class ServerError(DeconvError):
    """The server does not start or stop."""


@dataclass(frozen=True)
class Started:
    """The record of a started server."""

    pid: int
    mark: str
    address: str
    version: str
    """Of MLflow."""

    def processes(self) -> list[int]:
        """Return the server's processes that are alive, those of its workers too."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # of another user, or just gone
                if wanted in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found


def write_record(settings: ServerSettings, started: Started) -> None:
    """Note that a server runs."""
    write_text(_record(settings), json.dumps(asdict(started)))


def running(settings: ServerSettings) -> Started | None:
    """Return the server that runs from this state folder, if any."""
    try:
        started = Started(**json.loads(_record(settings).read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ServerError("the record is damaged", where=_record(settings), got=error) from error
    return started if started.processes() else None


def require_stopped(settings: ServerSettings) -> None:
    """Refuse to go on while the server runs.

    Raises
    ------
    ServerError
        If it does.
    """
    found = running(settings)
    if found is not None:
        raise ServerError("the server runs", where=found.address, expected="stop it first")


@contextmanager
def locked(settings: ServerSettings) -> Iterator[None]:
    """Let one command at a time start, stop, back up, restore, clean or migrate.

    Raises
    ------
    ConfigError
        If another one is at it, or the folder cannot be made.
    """
    try:
        settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (settings.state / "lock").open("w")
    except OSError as error:
        raise ConfigError(
            "cannot use the state folder", where=settings.state, got=error
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError("another server command is at work", where=settings.state) from error
        yield


def check_port(settings: ServerSettings) -> None:
    """Refuse a port that something else listens on.

    Raises
    ------
    ServerError
        If it is taken, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise ServerError(
                "cannot listen", where=f"{settings.host}:{settings.port}", got=error.strerror,
                expected="a free port (--set port=...)",
            ) from error  # fmt: skip


def is_healthy(address: str) -> bool:
    """Return whether the server answers."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def stop(settings: ServerSettings) -> str:
    """Stop the server, and say how it went.

    It gets ``stop_timeout`` seconds to answer what it was asked; what is left is killed.

    Raises
    ------
    ServerError
        If none runs, or its processes cannot be ended.
    """
    with locked(settings):
        started = running(settings)
        if started is None:
            _record(settings).unlink(missing_ok=True)
            raise ServerError("no server runs", where=settings.state)
        how = end(started, settings.stop_timeout)
        _record(settings).unlink()
    return how


def end(started: Started, timeout: float) -> str:
    """End the processes of a server: asked first, killed after ``timeout`` seconds."""
    alive = started.processes()
    _send(signal.SIGTERM, [started.pid] if started.pid in alive else alive)
    if _gone(started, timeout):
        return "stopped"
    _send(signal.SIGKILL, started.processes())
    if _gone(started, 5):
        return f"killed after {timeout:g} s"
    raise ServerError("the server does not end", got=f"processes {started.processes()}")


def _gone(started: Started, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while started.processes():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _send(number: int, pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _record(settings: ServerSettings) -> Path:
    return settings.state / "server.json"
