"""`deconv serve`."""

from pathlib import Path

import click

from experiments.commands.options import record_folder
from experiments.names import MODEL_NAME, PRODUCTION


@click.command()
@click.option(
    "--model", default=f"models:/{MODEL_NAME}@{PRODUCTION}", show_default=True,
    help="A model URI of MLflow or a bundle's folder.",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port", default=5001, show_default=True, type=click.IntRange(0, 65535),
    help="0: any free one, which is printed.",
)  # fmt: skip
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
@click.option(
    "--max-mb", default=16.0, show_default=True, type=click.FloatRange(0, min_open=True),
    help="Largest request, in 10^6 bytes.",
)  # fmt: skip
@click.option(
    "--max-samples", default=64, show_default=True, type=click.IntRange(1),
    help="Most samples in a request.",
)  # fmt: skip
@click.option(
    "--at-once", type=click.IntRange(1), show_default="its share of the cores",
    help="Requests that a process computes at a time, each in a thread; the others wait.",
)  # fmt: skip
@click.option(
    "--max-waiting", default=64, show_default=True, type=click.IntRange(1),
    help="Most requests in a process; further ones get status 503.",
)  # fmt: skip
@record_folder
def serve(
    model: str,
    host: str,
    port: int,
    workers: int,
    max_mb: float,
    max_samples: int,
    at_once: int | None,
    max_waiting: int,
    records: Path | None,
) -> None:
    """Answer requests with a model: MLflow's scoring server, with limits.

    POST /invocations takes JSON; GET /ping, /health and /version tell that it lives. It runs
    until Ctrl-C or SIGTERM. A model that is promoted later is served after a restart.
    """
    from experiments.console import quiet_libraries

    quiet_libraries()
    from experiments.serving.gate import Limits
    from experiments.serving.server import cores_each, find_serving, serve

    limits = Limits(int(max_mb * 1e6), max_samples, at_once or cores_each(workers), max_waiting)
    serve(find_serving(model, limits, records), host, port, workers, click.echo)
