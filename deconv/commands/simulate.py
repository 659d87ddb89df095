"""`deconv simulate`."""

from pathlib import Path

import click


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help=".h5ad file")
@click.option("--regions", default=8000, show_default=True, help="Number of regions.")
@click.option("--donors", default=7, show_default=True, help="Donors of each tissue.")
@click.option(
    "--depth", default=240.0, show_default=True, help="Mean CpG observations of a region."
)
@click.option("--tissue", "tissues", multiple=True, help="Tissue name; repeat. Default: all 22.")
@click.option("--seed", default=0, show_default=True)
def simulate(
    output: Path, regions: int, donors: int, depth: float, tissues: tuple[str, ...], seed: int
) -> None:
    """Make a synthetic atlas: pure samples of several donors of each tissue."""
    from rich.progress import Progress

    from deconv.errors import InputError
    from deconv.simulate import TISSUES, simulate_atlas

    if output.suffix != ".h5ad":
        raise InputError("unknown suffix", where=output, expected=".h5ad")
    chosen = tissues or tuple(TISSUES)
    with Progress(transient=True) as progress:
        task = progress.add_task("simulating donors", total=len(chosen) * donors)
        simulate_atlas(
            output, n_regions=regions, n_donors=donors, depth=depth, tissues=chosen, seed=seed,
            advance=lambda: progress.advance(task),
        )  # fmt: skip
    click.echo(
        f"{output}: {len(chosen) * donors} samples of {len(chosen)} tissues, {regions} regions"
    )
