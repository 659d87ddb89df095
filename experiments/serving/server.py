"""`deconv serve`: find the model, listen, and run the processes of the server."""

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import uvicorn
from mlflow.pyfunc import scoring_server
from uvicorn.supervisors import Multiprocess

from deconv.bundle import bundle_hash, read_bundle
from deconv.errors import ConfigError
from experiments.registry import fetch_model, registered_version
from experiments.serving.gate import Gate, Limits
from experiments.serving.model import served_model

_SECONDS_TO_STOP = 30
_SECONDS_TO_START = 300  # a worker that has not answered until then is replaced


@dataclass(frozen=True)
class Serving:
    """What each process of a server needs to know.

    ``threads`` are those that a process computes with; ``name`` says which model it is.
    """

    bundle: Path
    name: str
    threads: int
    limits: Limits = field(default_factory=Limits)


def find_serving(source: str, workers: int, limits: Limits) -> Serving:
    """Fetch and check a model, once for all processes, which then serve the same version.

    Parameters
    ----------
    source
        An MLflow URI or a bundle's folder.

    Raises
    ------
    DeconvError
        If there is no such model, or it is damaged.
    """
    registered = ":/" in source
    bundle = fetch_model(source) if registered else Path(source)
    read_bundle(bundle)
    version = registered_version(source) if registered else None
    name = "bundle" if version is None else f"version {version}"
    threads = max(1, min(torch.get_num_threads(), len(os.sched_getaffinity(0)) // workers))
    return Serving(bundle, f"{name}, sha256 {bundle_hash(bundle)}", threads, limits)


def make_app(serving: Serving) -> Gate:
    """Return the application of one process."""
    torch.set_num_threads(serving.threads)
    model = served_model(read_bundle(serving.bundle), serving.limits.max_samples)
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


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            "cannot listen", where=f"{host}:{port}", got=error.strerror,
            expected="a free port of this machine (--port)",
        ) from error  # fmt: skip
