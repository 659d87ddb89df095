"""`deconv freeze`."""

from pathlib import Path

import click


@click.command()
@click.argument("run")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False),
    help="The benchmark, .h5ad.",
)  # fmt: skip
def freeze(run: str, output: Path) -> None:
    """Write the test mixtures of RUN (a folder or name) as a benchmark for `deconv promote`."""
    from experiments.benchmark_file import write_benchmark
    from experiments.config import OutputConfig
    from experiments.console import quiet_libraries
    from experiments.rundir import RunFolder

    quiet_libraries()
    config = RunFolder.find(run, OutputConfig().directory).config()
    written = write_benchmark(config, output)
    click.echo(f"{output}: {len(written)} mixtures, SHA-256 {written.content_hash[:16]}")
