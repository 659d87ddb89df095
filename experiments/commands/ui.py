"""`deconv ui`."""

import os
import sys

import click


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=5000, show_default=True)
def ui(host: str, port: int) -> None:
    """Open the MLflow user interface on the runs that this folder's commands see."""
    import mlflow

    from experiments.console import quiet_libraries

    quiet_libraries()
    store = mlflow.get_tracking_uri()
    if store.startswith("http"):
        click.echo(f"the runs are on a server: open {store}")
        return
    click.echo(f"{store}: open http://{host}:{port} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port)]
    os.execv(sys.executable, [*command, "--backend-store-uri", store])
