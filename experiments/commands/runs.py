"""`deconv runs`."""

from pathlib import Path

import click

from experiments.commands.options import starts_quickly


@click.group()
def runs() -> None:
    """Where runs come from, and how to make them again."""


@runs.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@starts_quickly
def show(run: str, as_json: bool) -> None:
    """Show a run's data, code, environment, configuration, parents and models.

    RUN is a run's folder, name or MLflow id.
    """
    import json

    from rich.console import Console

    from experiments.ancestry import ancestry, ancestry_tables
    from experiments.console import quiet_libraries
    from experiments.reading import find_run

    quiet_libraries()
    lineage = ancestry(find_run(run))
    if as_json:
        click.echo(json.dumps(lineage, indent=1))
    else:
        Console(highlight=False).print(ancestry_tables(lineage))


@runs.command()
@click.argument("run")
@click.option("--check-only", is_flag=True, help="Say whether it can be repeated; train nothing.")
@click.option("--strict", is_flag=True, help="Refuse if code, versions or machine differ.")
@click.option("--data", help="Where the run's data lie now, if not where they were.")
@click.option(
    "-o", "--output", "directory", default="reproduced", show_default=True,
    type=click.Path(path_type=Path, file_okay=False), help="Folder of the new run.",
)  # fmt: skip
def reproduce(run: str, check_only: bool, strict: bool, data: str | None, directory: Path) -> None:
    """Train RUN again from what it logged, and compare the results: status 1 if they differ.

    Other data are refused; other code, versions or machines are named, and the result then
    need not be equal to the last bit.
    """
    from rich.console import Console

    from deconv.errors import MismatchError
    from experiments.console import conditions_table, differences_table, quiet_libraries
    from experiments.reading import find_run
    from experiments.reproduce import ABSOLUTE, RELATIVE, plan, repeat

    quiet_libraries()
    chosen = plan(find_run(run), data=data)
    console = Console(highlight=False, soft_wrap=True)
    console.print(conditions_table(chosen.conditions))
    demand = (
        "equal to the last bit"
        if chosen.is_exact
        else f"within {RELATIVE:.0%} or {ABSOLUTE:g} of what was logged"
    )
    if chosen.differing and strict:
        raise MismatchError(
            "not the conditions of the run", where=chosen.run.info.run_name,
            got=", ".join(c.name for c in chosen.differing), expected="as logged, or no --strict",
        )  # fmt: skip
    console.print(f"the data are the run's; the result has to be {demand}")
    if check_only:
        return
    folder, differences = repeat(chosen, directory)
    console.print(f"new run {folder}")
    if differences:
        console.print(differences_table(differences))
        console.print(f"[red]not reproduced:[/] {len(differences)} values are not {demand}")
        raise click.exceptions.Exit(1)
    console.print(f"[green]reproduced:[/] every metric and point of the curves is {demand}")
