"""`deconv evaluate`."""

from pathlib import Path

import click


@click.command()
@click.argument("run", required=False)
@click.option("--model", help="Instead of RUN: a model URI, a bundle's folder or a checkpoint.")
@click.option(
    "--data", type=click.Path(path_type=Path),
    help="With --model: an .h5ad of samples with true proportions in obsm.",
)  # fmt: skip
@click.option(
    "-o", "--output", default="report.html", show_default=True, type=click.Path(path_type=Path),
    help="The page. Its numbers go beside it as .json, the predictions as summary_stats.csv.",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto")
def evaluate(
    run: str | None, model: str | None, data: Path | None, output: Path, device: str
) -> None:
    """Write the report of a full evaluation: metrics, tables and figures in one page.

    RUN is a run's folder, name or MLflow id: its best checkpoint is evaluated on the mixtures
    of its held-out donors, beside the baselines.
    """
    from deconv.errors import ConfigError
    from deconv.files import require_page_name
    from experiments.console import quiet_libraries
    from experiments.prepare import pick_device
    from experiments.report import evaluate_model, evaluate_run_folder
    from experiments.report_page import write_report

    quiet_libraries()
    require_page_name(output)
    if run is not None and model is None and data is None:
        evaluation = evaluate_run_folder(run, pick_device(device))
    elif run is None and model is not None and data is not None:
        evaluation = evaluate_model(model, data, pick_device(device))
    else:
        raise ConfigError("not clear what to evaluate", expected="RUN, or --model and --data")
    for path in write_report(evaluation, output):
        click.echo(path)
