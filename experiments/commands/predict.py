"""`deconv predict`."""

from pathlib import Path

import click


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model", default="models:/sparse-deconvolution@production", show_default=True,
    help="A model URI of MLflow, a bundle's folder, or a checkpoint.",
)  # fmt: skip
@click.option(
    "-o", "--output", default="predictions.csv", show_default=True,
    type=click.Path(path_type=Path), help="A row per sample and tissue; a figure goes beside it.",
)  # fmt: skip
@click.option("--build", default="unknown", show_default=True, help="Genome build of the files.")
@click.option(
    "--min-overlap", default=0.9, show_default=True, type=click.FloatRange(0, 1),
    help="Share of the model's regions that a file must have.",
)  # fmt: skip
def predict(
    files: tuple[Path, ...], model: str, output: Path, build: str, min_overlap: float
) -> None:
    """Say which tissues the samples in FILES come from."""
    from experiments.console import quiet_libraries
    from experiments.predict import load_model, predict_files, write_prediction

    quiet_libraries()
    bundle = load_model(model)
    prediction = predict_files(files, bundle, build=build, min_overlap=min_overlap)
    figure = write_prediction(prediction, output)
    for note in prediction.notes:
        click.echo(note)
    click.echo(f"{output}\n{figure}")
