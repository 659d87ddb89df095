"""`deconv check`."""

from pathlib import Path

import click


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model", default="models:/sparse-deconvolution@production", show_default=True,
    help="A model URI of MLflow, a bundle's folder, a checkpoint, or an atlas' file.",
)  # fmt: skip
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write it as JSON.")
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Write a page.")
@click.option("--build", default="unknown", show_default=True, help="Genome build of the files.")
@click.option(
    "--min-overlap", default=0.9, show_default=True, type=click.FloatRange(0, 1),
    help="Share of the model's regions that a file must have.",
)  # fmt: skip
@click.pass_context
def check(
    ctx: click.Context,
    files: tuple[Path, ...],
    model: str,
    json_path: Path | None,
    html_path: Path | None,
    build: str,
    min_overlap: float,
) -> None:
    """Check whether the samples in FILES can be analysed with a model, and how well.

    FILES are of any known format, or sample sheets (CSV with sample, path, donor, ...).
    The exit status is 1 if there is an error among the findings.
    """
    import json

    from rich.console import Console

    from deconv.files import write_text
    from deconv.formats import ReadOptions
    from experiments.console import findings_table, quality_table, quiet_libraries
    from experiments.outputs import quality_json
    from experiments.pages import check_page
    from experiments.predict import check_files, open_model

    quiet_libraries()
    opened = open_model(model, build=build, min_overlap=min_overlap)
    result = check_files(files, opened, options=ReadOptions(build=build), min_overlap=min_overlap)
    console = Console()
    if result.measured is not None:
        console.print(quality_table(result.measured, result.table))
    if result.findings:
        console.print(findings_table(result.findings))
    else:
        console.print("nothing was found", style="green")
    if json_path is not None:
        content = {"model": dict(opened.facts), **quality_json(result)}
        write_text(json_path, json.dumps(content, indent=1, allow_nan=False))
        click.echo(json_path)
    if html_path is not None:
        write_text(html_path, check_page(result))
        click.echo(html_path)
    if any(finding.severity == "error" for finding in result.findings):
        ctx.exit(1)
