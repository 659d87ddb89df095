"""`deconv serve`: find the model, listen, and run the processes of the server."""

import ctypes
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import uvicorn
from mlflow.pyfunc import scoring_server
from uvicorn.supervisors import Multiprocess

from deconv.bundle import bundle_hash, read_bundle
from deconv.errors import ConfigError
from experiments.fetch import fetch_model, is_registered
from experiments.model_cache import fetch_cached
from experiments.models import Identity
from experiments.prediction_records import require_writable
from experiments.serving.gate import Gate, Limits
from experiments.serving.model import served_model

_BACKLOG = 2048
_PR_SET_PDEATHSIG = 1
_SECONDS_TO_STOP = 30
_SECONDS_TO_START = 300  # a worker that has not answered until then is replaced


@dataclass(frozen=True)
class Serving:
    """What each process of a server needs to know.

    ``note`` is not empty where the registry could not say which version is meant; answers are
    recorded in ``records``, if that is given.
    """

    bundle: Path
    identity: Identity
    limits: Limits
    records: Path | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """Say which model it is."""
        version = self.identity.version
        kind = f"version {version}" if version else "bundle"
        return f"{kind}, sha256 {self.identity.sha256}"


def find_serving(source: str, limits: Limits, records: Path | None = None) -> Serving:
    """Fetch and check a model, once for all processes, which then serve the same version.

    Parameters
    ----------
    source
        An MLflow URI or a bundle's folder.
    records
        Where answers are recorded; nowhere if None.

    Raises
    ------
    DeconvError
        If there is no such model, it is damaged, or records cannot be written.
    """
    if records is not None:
        require_writable(records)
    if is_registered(source):
        found = fetch_cached(source)
        bundle, name, version, note = found.folder, found.name, found.version, found.note
    else:
        bundle = fetch_model(source) if ":/" in source else Path(source)
        name, version, note = source, "", ""
    read_bundle(bundle)
    return Serving(bundle, Identity(name, version, bundle_hash(bundle)), limits, records, note)


def cores_each(workers: int) -> int:
    """Return how many of the cores that this process may use each worker has for itself."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


def make_app(serving: Serving) -> Gate:
    """Return the application of one process."""
    # Requests are computed side by side, each in one thread: threads that share the work of a
    # small request wait for each other, on a busy machine many times longer than they compute.
    torch.set_num_threads(1)
    if multiprocessing.parent_process() is not None:
        _end_with_parent()
    model = served_model(
        read_bundle(serving.bundle), serving.limits.max_samples,
        identity=serving.identity, records=serving.records,
    )  # fmt: skip
    return Gate(scoring_server.init(model), serving.limits, serving.name)


def serve(
    serving: Serving, host: str, port: int, workers: int, say: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT; requests that are in get their answers first.

    ``say`` is told the address, which is new information where ``port`` is 0.

    Raises
    ------
    ConfigError
        If the address cannot be listened at.
    """
    with _listening(host, port) as listener:
        address = listener.getsockname()
        if serving.note:
            say(serving.note)
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{address[1]}/invocations: {serving.name}")
        config = uvicorn.Config(
            partial(make_app, serving), factory=True, workers=workers, log_level="warning",
            access_log=False, timeout_graceful_shutdown=_SECONDS_TO_STOP,
            timeout_worker_healthcheck=_SECONDS_TO_START,
        )  # fmt: skip
        if workers > 1:
            Multiprocess(config, sockets=[listener]).run()
            return
        # When it has stopped, uvicorn raises the signal once more: that is no failure here.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        uvicorn.Server(config).run(sockets=[listener])


def _end_with_parent() -> None:
    """Let Linux end this worker when the server is killed, or it would go on at the port."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once only where a socket says that it is of TCP:
    # otherwise each answer waits 40 ms for the client's acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            "cannot listen", where=f"{host}:{port}", got=error.strerror,
            expected="a free port of this machine (--port)",
        ) from error  # fmt: skip
    return listener
