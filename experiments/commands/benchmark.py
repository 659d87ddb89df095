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


@benchmark.command()
@click.option("--json", "path", required=True, type=click.Path(path_type=Path), help="Result.")
@click.option("--quick", is_flag=True, help="One small panel and four scenarios, in minutes.")
@click.option("--regions", "n_regions", type=click.IntRange(100), help="Of the panel.")
@click.option("--seeds", type=click.IntRange(1), help="Panels, donors and networks.")
@click.option("--scenario", "names", multiple=True, help="Only these.")
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of real data (metdecode, uxm, meth_atlas), to measure too.",
)  # fmt: skip
def accuracy(
    path: Path,
    quick: bool,
    n_regions: int | None,
    seeds: int | None,
    names: tuple[str, ...],
    data: Path | None,
) -> None:
    """Networks beside the classical methods, on mixtures of donors that none has seen."""
    from dataclasses import replace

    from rich.console import Console

    from deconv.benchmarks.scenarios import QUICK, pick_scenarios
    from experiments.accuracy import QUICK_SIZE, Size, benchmark_accuracy
    from experiments.console import accuracy_table, quiet_libraries
    from experiments.real import real_rows

    quiet_libraries()
    size = QUICK_SIZE if quick else Size()
    size = replace(size, n_regions=n_regions or size.n_regions, seeds=seeds or size.seeds)
    console = Console(highlight=False)
    benchmark_accuracy(
        path,
        size=size,
        scenarios=pick_scenarios(names or (QUICK if quick else ())),
        real=None if data is None else lambda: real_rows(data),
        report=lambda rows: console.print(accuracy_table(rows)),
    )
    console.print(f"{path}\n{path.with_suffix('.html')}")


@benchmark.command("io")
@click.option("--json", "path", required=True, type=click.Path(path_type=Path), help="Result.")
@click.option(
    "--rows", "n_rows", default=2_000_000, show_default=True, type=click.IntRange(100),
    help="Lines of each table.",
)  # fmt: skip
@click.option("--regions", "n_regions", default=51_089, show_default=True)
def io(path: Path, n_rows: int, n_regions: int) -> None:
    """Rows a second of the readers, beside a loop in Python and bare decompression."""
    from rich.console import Console
    from rich.table import Table

    from deconv.benchmarks.readers import benchmark_readers

    results = benchmark_readers(path, n_rows=n_rows, n_regions=n_regions)
    rates = ("rows_per_s", "naive_rows_per_s", "unpacking_rows_per_s")
    table = Table("", *rates, title=str(path), title_justify="left")
    for result in results:
        known = (f"{result[name]:.3g}" if name in result else "" for name in rates)
        table.add_row(result["format"], *known)
    Console().print(table)


@benchmark.command("serve")
@click.option("--json", "path", required=True, type=click.Path(path_type=Path), help="Result.")
@click.option("--regions", "n_regions", default=51_089, show_default=True)
@click.option("--samples", "n_samples", default=1, show_default=True, help="In a request.")
@click.option("--clients", multiple=True, default=(1, 8, 32), show_default=True)
@click.option("--seconds", default=15.0, show_default=True, help="For each number of clients.")
@click.option(
    "--load-seconds", default=60.0, show_default=True, help="For the most clients, once more."
)
def serve(
    path: Path,
    n_regions: int,
    n_samples: int,
    clients: tuple[int, ...],
    seconds: float,
    load_seconds: float,
) -> None:
    """Answers a second, latency and memory of `deconv serve`, beside calls of the library.

    Exits with 1 if any answer failed or was another than the library's.
    """
    from experiments.console import quiet_libraries
    from experiments.serving.benchmark import benchmark_serving

    quiet_libraries()

    def report(result: dict[str, object]) -> None:
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items())
        click.echo("  ".join(shown))

    results = benchmark_serving(
        path, n_regions=n_regions, n_samples=n_samples, clients=clients, seconds=seconds,
        load_seconds=load_seconds, report=report,
    )  # fmt: skip
    click.echo(str(path))
    if any(result.get("failures") for result in results):
        raise click.exceptions.Exit(1)
