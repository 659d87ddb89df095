"""`deconv compare`."""

from pathlib import Path

import click

from experiments.commands.options import starts_quickly


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN ...")
@click.option(
    "--html", "page", type=click.Path(path_type=Path),
    help="Write a page with curves, intervals, tissues and Miami plots.",
)  # fmt: skip
@starts_quickly
def compare(runs: tuple[str, ...], page: Path | None) -> None:
    """Show how runs differ: settings, metrics, tissues, and what of it is significant.

    RUN is a run's folder, name or MLflow id; the first is the one that others are compared with.
    """
    from rich.console import Console

    from deconv.files import require_page_name
    from experiments.comparison import compare_runs, read_curves
    from experiments.comparison_page import comparison_tables, write_page
    from experiments.console import quiet_libraries

    quiet_libraries()
    if page is not None:
        require_page_name(page)
    found = compare_runs(runs)
    Console(highlight=False).print(comparison_tables(found))
    if page is not None:
        write_page(found, read_curves(found.sides), page)
        click.echo(page)
