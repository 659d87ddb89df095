"""`deconv predict`."""

from pathlib import Path

import click


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model", default="models:/sparse-deconvolution@production", show_default=True,
    help="A model URI of MLflow, a bundle's folder, a checkpoint, or an atlas' file.",
)  # fmt: skip
@click.option(
    "-o", "--output", default="predictions.csv", show_default=True,
    type=click.Path(path_type=Path),
    help="A .csv: a row per sample and tissue, and a figure. Or a folder: also a table with a"
    " column per tissue, JSON, and pages to look at.",
)  # fmt: skip
@click.option("--build", default="unknown", show_default=True, help="Genome build of the files.")
@click.option(
    "--min-overlap", default=0.9, show_default=True, type=click.FloatRange(0, 1),
    help="Share of the model's regions that a file must have.",
)  # fmt: skip
def predict(
    files: tuple[Path, ...], model: str, output: Path, build: str, min_overlap: float
) -> None:
    """Say which tissues the samples in FILES come from.

    FILES are of any known format, or sample sheets (CSV with sample, path, donor, ...).
    """
    from rich.console import Console

    from deconv.formats import ReadOptions
    from experiments.console import findings_table, quiet_libraries
    from experiments.outputs import check_output, write_prediction
    from experiments.predict import open_model, predict_files

    quiet_libraries()
    check_output(output)
    opened = open_model(model, build=build, min_overlap=min_overlap)
    prediction = predict_files(
        files, opened, options=ReadOptions(build=build), min_overlap=min_overlap
    )
    written = write_prediction(prediction, output)
    for note in prediction.notes:
        click.echo(note)
    serious = [f for f in prediction.findings if f.severity != "note"]
    if serious:
        Console().print(findings_table(serious))
    for path in written:
        click.echo(path)
