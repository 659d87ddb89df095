"""`deconv predict`."""

from pathlib import Path

import click

from experiments.commands.options import records as recording
from experiments.commands.options import takes_samples


@click.command()
@takes_samples
@recording
@click.option(
    "-o", "--output", default="predictions.csv", show_default=True,
    type=click.Path(path_type=Path),
    help="A .csv: a row per sample and tissue, and a figure. Or a folder: also a table with a"
    " column per tissue, JSON, and pages to look at.",
)  # fmt: skip
def predict(
    files: tuple[Path, ...],
    model: str,
    build: str,
    pseudo_coverage: int | None,
    min_overlap: float,
    records: Path | None,
    record_names: bool,
    output: Path,
) -> None:
    """Say which tissues the samples in FILES come from.

    FILES are of any known format, or sample sheets (CSV with sample, path, donor, ...).
    """
    from rich.console import Console

    from deconv.formats import make_options
    from deconv.quality_tables import findings_table
    from experiments.console import going_through, quiet_libraries
    from experiments.outputs import check_output, write_prediction
    from experiments.predict import open_model, predict_files
    from experiments.prediction_records import add_records, records_of, require_writable

    quiet_libraries()
    check_output(output)
    if records is not None:
        require_writable(records)
    opened = open_model(model, build=build, min_overlap=min_overlap)
    with going_through("predicting") as advance:
        prediction = predict_files(
            files,
            opened,
            options=make_options(build=build, pseudo_coverage=pseudo_coverage),
            min_overlap=min_overlap,
            advance=advance,
        )
    if records is not None:  # before anybody sees the results: none is without a record
        add_records(records, records_of(prediction, names=record_names))
    written = write_prediction(prediction, output)
    for note in prediction.notes:
        click.echo(note)
    serious = [f for f in prediction.findings if f.severity != "note"]
    if serious:
        Console().print(findings_table(serious))
    for path in written:
        click.echo(path)
