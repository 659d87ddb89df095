"""`deconv leaderboard`."""

import click

from experiments.commands.options import starts_quickly


@click.command()
@click.option(
    "--metric", default="best/val/mae", show_default=True,
    help="Rank by this metric: best/val/..., test/..., val/... (of the last epoch).",
)  # fmt: skip
@click.option("--phase", help="Of the curriculum: 1, 2, 3 or mixed.")
@click.option("--sparse/--dense", default=None, help="Two-stage models, or the others.")
@click.option("--dataset", help="Name of the pure samples, without suffix.")
@click.option("--study", help="Runs of this study.")
@click.option("--experiment", "experiments", multiple=True, help="[default: sparse-deconvolution]")
@click.option("-n", "n", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="For programs: every metric of each run.")
@starts_quickly
def leaderboard(
    metric: str,
    phase: str | None,
    sparse: bool | None,
    dataset: str | None,
    study: str | None,
    experiments: tuple[str, ...],
    n: int,
    as_json: bool,
) -> None:
    """Rank the finished runs by a metric, the best first."""
    import json

    from rich.console import Console

    from experiments import leaderboard as board
    from experiments.console import quiet_libraries
    from experiments.reading import EXPERIMENT

    quiet_libraries()
    kind = None if sparse is None else str(sparse).lower()
    tags = {"phase": phase, "sparse": kind, "dataset": dataset, "study": study}
    rows = board.leaderboard(
        metric,
        experiments=experiments or (EXPERIMENT,),
        tags={name: value for name, value in tags.items() if value is not None},
        n=n,
    )
    if as_json:
        click.echo(json.dumps(board.leaderboard_json(rows), indent=1))
        return
    if not rows:
        click.echo("no finished runs match")
        return
    console = Console()
    table, note = board.leaderboard_table(rows, metric, width=console.width)
    console.print(table)
    console.print(note, style="dim")
