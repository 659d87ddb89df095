"""`deconv demo`."""

from pathlib import Path

import click


@click.command()
@click.option("--folder", default="demo", show_default=True, type=click.Path(path_type=Path))
def demo(folder: Path) -> None:
    """Show the main job on synthetic data: simulate, train, promote, predict."""
    from experiments.console import quiet_libraries
    from experiments.demo import run_demo

    quiet_libraries()
    run_demo(folder)
