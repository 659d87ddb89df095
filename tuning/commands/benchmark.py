"""`deconv benchmark`, with what concerns studies."""

from pathlib import Path

import click

from experiments.commands.benchmark import benchmark

__all__ = ["benchmark"]


@benchmark.command()
@click.option("--json", "path", required=True, type=click.Path(path_type=Path), help="Result.")
@click.option("--trials", default=40, show_default=True, help="With pruning, and without.")
@click.option("--regions", default=8000, show_default=True, help="Of the synthetic panel.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Of the demo's run.")
@click.option("--processes", default=1, show_default=True, help="Workers, which share the cores.")
@click.option("--postgres", metavar="URL", help="An empty database, to measure it too.")
def tuning(
    path: Path,
    trials: int,
    regions: int,
    overrides: tuple[str, ...],
    processes: int,
    postgres: str | None,
) -> None:
    """Measure what studies cost and gain: storage, pruning, tuned against default."""
    from rich.console import Console

    from experiments.console import quiet_libraries
    from tuning.benchmark import benchmark_tuning
    from tuning.launch import quiet_optuna

    quiet_libraries()
    quiet_optuna()
    console = Console(highlight=False, soft_wrap=True)
    benchmark_tuning(
        path.absolute(), n_trials=trials, n_regions=regions, overrides=overrides,
        processes=processes, postgres=postgres, say=console.print,
    )  # fmt: skip
    console.print(str(path))
