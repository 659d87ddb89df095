"""`deconv benchmark`."""

from pathlib import Path

import click


@click.group()
def benchmark() -> None:
    """Measure the product on this machine, beside a baseline in the same run."""


@benchmark.command()
@click.option("--json", "path", required=True, type=click.Path(path_type=Path), help="Result.")
@click.option("--regions", "sizes", multiple=True, default=(8000, 51089), show_default=True)
@click.option("--batch-size", default=512, show_default=True)
@click.option("--epochs", default=10, show_default=True, help="Of the run that times tracking.")
def speed(path: Path, sizes: tuple[int, ...], batch_size: int, epochs: int) -> None:
    """Mixtures per second, memory, prediction; beside matrix products and a naive data path."""
    from rich.console import Console
    from rich.table import Table

    from experiments.benchmark import benchmark_speed
    from experiments.console import quiet_libraries

    quiet_libraries()
    results = benchmark_speed(path, sizes=sizes, batch_size=batch_size, n_epochs=epochs)
    table = Table(title=str(path), title_justify="left")
    table.add_column("")
    for _ in results:
        table.add_column(justify="right", no_wrap=True)
    for name in results[0]:
        values = (result[name] for result in results)
        table.add_row(name, *(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values))
    Console().print(table)
