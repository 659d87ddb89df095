"""`deconv check`."""

from pathlib import Path

import click

from experiments.commands.options import takes_samples


@click.command()
@takes_samples
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write it as JSON.")
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Write a page.")
@click.pass_context
def check(
    ctx: click.Context,
    files: tuple[Path, ...],
    model: str,
    build: str,
    pseudo_coverage: int | None,
    min_overlap: float,
    json_path: Path | None,
    html_path: Path | None,
) -> None:
    """Check whether the samples in FILES can be analysed with a model, and how well.

    FILES are of any known format, or sample sheets (CSV with sample, path, donor, ...).
    The exit status is 1 if there is an error among the findings.
    """
    import json

    from rich.console import Console

    from deconv.files import require_page_name, require_place, write_text
    from deconv.formats import make_options
    from deconv.quality_tables import findings_table, quality_json, quality_table
    from experiments.console import going_through, quiet_libraries
    from experiments.pages import check_page
    from experiments.predict import open_model, predict_files

    quiet_libraries()
    if json_path is not None:
        require_place(json_path)
    if html_path is not None:
        require_page_name(html_path)
    opened = open_model(model, build=build, min_overlap=min_overlap)
    with going_through("checking") as advance:
        result = predict_files(
            files,
            opened,
            options=make_options(build=build, pseudo_coverage=pseudo_coverage),
            min_overlap=min_overlap,
            only_check=True,
            advance=advance,
        )
    console = Console()
    if result.measured is not None:
        console.print(quality_table(result.measured, result.table))
    for note in result.notes:
        click.echo(note)
    if result.findings:
        console.print(findings_table(result.findings))
    else:
        console.print("nothing was found", style="green")
    if json_path is not None:
        quality = quality_json(result.measured, result.findings, result.notes)
        content = {"model": dict(opened.facts), **quality}
        write_text(json_path, json.dumps(content, indent=1, allow_nan=False))
        click.echo(json_path)
    if html_path is not None:
        write_text(html_path, check_page(result))
        click.echo(html_path)
    if any(finding.severity == "error" for finding in result.findings):
        ctx.exit(1)
