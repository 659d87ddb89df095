"""`deconv atlas`."""

from pathlib import Path

import click

_BUILD = click.option(
    "--build", default="unknown", show_default=True, help="Genome build, if the files do not say."
)


@click.group()
def atlas() -> None:
    """Make atlases of pure samples or published means, and export them."""


@atlas.command()
@click.argument("samples", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help=".h5ad or .tsv[.gz]"
)
@click.option(
    "--labels", type=click.Path(path_type=Path),
    help="Table with sample, tissue and optionally donor, where the samples do not say.",
)  # fmt: skip
@click.option(
    "--map", "map_path", type=click.Path(path_type=Path),
    help="YAML: merge: {new name: [tissue, ...]} and drop: [tissue, ...].",
)  # fmt: skip
@click.option(
    "--regions", type=click.Path(path_type=Path),
    help="Regions to count in, for files that hold single CpGs or reads.",
)  # fmt: skip
@_BUILD
@click.option(
    "--pseudo-coverage", type=click.IntRange(1),
    help="Observations a mean stands for, in samples that have no coverage.",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), help="Files read at once.  [default: cores]")
def build(
    samples: tuple[Path, ...],
    output: Path,
    labels: Path | None,
    map_path: Path | None,
    regions: Path | None,
    build: str,
    pseudo_coverage: int | None,
    jobs: int | None,
) -> None:
    """Make an atlas of SAMPLES.

    SAMPLES are pure samples in files of any known format, or sample sheets (CSV with sample,
    path, tissue and optionally donor); each stays a sample of its own. Or one atlas of
    published means: a table of UXM or nanomix, or a CSV of array probes.
    """
    from deconv.build import build_reference
    from deconv.commands.progress import reading
    from deconv.formats.atlases import require_atlas_name, write_atlas
    from deconv.reference import read_tissue_map, regroup

    require_atlas_name(output)
    wanted = None if map_path is None else read_tissue_map(map_path)
    with reading() as advance:
        reference = build_reference(
            samples, labels=labels, regions_path=regions, build=build, folder=output.parent,
            pseudo_coverage=pseudo_coverage, n_jobs=jobs, advance=advance,
        )  # fmt: skip
    if wanted is not None:
        reference = regroup(reference, wanted, where=map_path)
    write_atlas(reference, output)
    for note in () if reference.donors is None else reference.donors.notes:
        click.echo(note)
    click.echo(f"{output}: {_described(reference)}")


@atlas.command()
@click.argument("source", metavar="ATLAS", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help=".tsv[.gz] or .h5ad"
)
@_BUILD
def export(source: Path, output: Path, build: str) -> None:
    """Write ATLAS, a file or a model's bundle, as a table; nothing that it is made of is lost.

    Of pure samples, their counts; of published means, the means; of a model, which has no
    donors any more, means, dispersion and coverage profile.
    """
    from deconv.bundle import read_bundle
    from deconv.formats.atlases import (
        open_atlas,
        reference_of,
        require_atlas_name,
        write_atlas,
    )

    require_atlas_name(output)
    if source.is_dir():
        reference = reference_of(read_bundle(source).atlas)
    else:
        reference = open_atlas(source, build=build)
    write_atlas(reference, output)
    click.echo(f"{output}: {_described(reference)}")


def _described(reference: object) -> str:
    from deconv.reference import Reference

    assert isinstance(reference, Reference)
    regions = reference.regions
    made_of = "means"
    if reference.donors is not None:
        made_of = f"{len(reference.donors)} samples"
    return (
        f"{made_of} of {len(reference.tissues)} tissues, {len(regions):,} regions of"
        f" {regions.build}"
    )
