"""`deconv drift`."""

from datetime import datetime
from pathlib import Path

import click

from experiments.commands.options import model_option
from experiments.names import RECORDS


@click.command()
@model_option
@click.option(
    "--records", type=click.Path(path_type=Path), envvar=RECORDS, show_envvar=True,
    required=True, help="Folder in which predictions are recorded.",
)  # fmt: skip
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    help="Only samples predicted since then (UTC).",
)  # fmt: skip
@click.option("--last", type=click.IntRange(1), help="Only so many, the latest.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write it as JSON.")
@click.pass_context
def drift(
    ctx: click.Context,
    model: str,
    records: Path,
    since: datetime | None,
    last: int | None,
    json_path: Path | None,
) -> None:
    """Compare recorded samples with those that a model was trained on.

    A quantity drifts where more samples than chance explains lie outside the central 99 % of
    training. The exit status is 1 if one does.
    """
    from rich.console import Console

    from experiments.console import quiet_libraries
    from experiments.drift import drift_table
    from experiments.watch import watch, write_json

    quiet_libraries()
    seen = watch(model, records, since=since, last=last)
    console = Console()
    for note in seen.notes:
        click.echo(note)
    console.print(drift_table(seen.drifts))
    click.echo(seen.verdict)
    if json_path is not None:
        write_json(seen, json_path)
        click.echo(json_path)
    if seen.has_drift:
        ctx.exit(1)
