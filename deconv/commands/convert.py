"""`deconv convert`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from deconv.aside import Yardstick
    from deconv.regions import Feature


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--regions", "region_file", type=click.Path(path_type=Path),
    help="BED or TSV (with CpG indices for .beta and .pat), UXM atlas, or .h5ad. Not needed if"
    " the files hold regions of their own.",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help=".h5ad file")
@click.option("--build", default="unknown", help="Genome build; inferred where that is safe.")
@click.option(
    "--feature", type=click.Choice(["cpg", "u_fragment"]),
    help="What to count; by default fragments if the regions have a direction, else CpGs.",
)  # fmt: skip
@click.option("--min-cpgs", default=4, show_default=True, help="Of a fragment.")
@click.option("--u-at-most", default=0.25, show_default=True, help="Methylated, of U.")
@click.option("--m-at-least", default=0.75, show_default=True, help="Methylated, of M.")
@click.option("--pseudo-coverage", type=int, help="Observations a mean stands for.")
@click.option(
    "--min-overlap", default=0.9, show_default=True, type=click.FloatRange(0, 1),
    help="Share of the regions that a file with regions of its own must have.",
)  # fmt: skip
@click.option(
    "--atlas", "atlas_path", type=click.Path(path_type=Path),
    help="Check against it too: an atlas' file or a model's bundle.",
)  # fmt: skip
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write what was found as JSON."
)
@click.option("--jobs", type=click.IntRange(1), help="Files read at once.  [default: cores]")
def convert(
    inputs: tuple[Path, ...],
    region_file: Path | None,
    output: Path,
    build: str,
    feature: "Feature | None",
    min_cpgs: int,
    u_at_most: float,
    m_at_least: float,
    pseudo_coverage: int | None,
    min_overlap: float,
    atlas_path: Path | None,
    json_path: Path | None,
    jobs: int | None,
) -> None:
    """Count the samples in INPUTS, of any known format, in regions, and check them.

    INPUTS may also be sample sheets (CSV with sample, path, donor, ...).
    """
    import json

    from rich.console import Console

    from deconv.commands.progress import reading
    from deconv.convert import convert_files, inferred_build
    from deconv.errors import InputError
    from deconv.files import require_place, write_text
    from deconv.formats import make_options
    from deconv.formats.region_file import read_regions
    from deconv.quality_tables import findings_table, quality_json

    if output.suffix != ".h5ad":
        raise InputError("unknown suffix", where=output, expected=".h5ad")
    for path in (output, json_path):
        if path is not None:
            require_place(path)
    options = make_options(
        build=build, min_cpgs=min_cpgs, u_at_most=u_at_most, m_at_least=m_at_least,
        pseudo_coverage=pseudo_coverage,
    )  # fmt: skip
    regions = None
    if region_file is not None:
        told = inferred_build(inputs) if build == "unknown" else build
        regions = read_regions(region_file, build=told, feature=feature)
        click.echo(f"{region_file}: {len(regions)} regions of {regions.build}")
    yardstick = None if atlas_path is None else _yardstick(atlas_path, build)
    with reading() as advance:
        result = convert_files(
            inputs, output, regions=regions, options=options, min_overlap=min_overlap,
            n_jobs=jobs, yardstick=yardstick, advance=advance,
        )  # fmt: skip
    for note in result.notes:
        click.echo(note)
    if result.findings:
        Console().print(findings_table(result.findings))
    if json_path is not None:
        content = quality_json(result.measured, result.findings, result.notes)
        write_text(json_path, json.dumps(content, indent=1, allow_nan=False))
        click.echo(str(json_path))
    click.echo(str(output))


def _yardstick(path: Path, build: str) -> "Yardstick":
    from deconv.aside import Yardstick
    from deconv.bundle import read_bundle
    from deconv.formats.atlases import open_atlas
    from deconv.quality import informative_regions

    if path.is_dir():
        atlas = read_bundle(path).atlas
        return Yardstick(atlas, informative_regions(atlas))
    reference = open_atlas(path, build=build)
    return Yardstick(reference.atlas, informative_regions(reference.atlas, reference.target))
