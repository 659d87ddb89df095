"""The end of `deconv tune`: what a study found, and its best in full."""

from pathlib import Path

import click


@click.command()
@click.argument("study")
def report(study: str) -> None:
    """Write figures, importances and the best into the study's folder and MLflow run."""
    from experiments.console import quiet_libraries
    from tuning.launch import find_study, quiet_optuna
    from tuning.parent import conclude_parent

    quiet_libraries()
    quiet_optuna()
    found = find_study(study)
    conclude_parent(found)
    click.echo(str(found.folder / "figures"))


@click.command()
@click.argument("study")
@click.option("--promote", is_flag=True, help="Offer the winner to the registry at once.")
@click.option(
    "--gates", type=click.Path(path_type=Path, dir_okay=False), help="Rules other than the usual."
)
@click.option("--allow-changed-code", is_flag=True, help="Accept uncommitted changes of the code.")
@click.pass_context
def finish(
    context: click.Context, study: str, promote: bool, gates: Path | None, allow_changed_code: bool
) -> None:
    """Train the best in full with several seeds, and test them beside the default.

    On a cluster it submits the runs; the same command later compares them.
    """
    from rich.console import Console

    from experiments.commands.promote import promote as promote_run
    from experiments.console import quiet_libraries
    from tuning.finals import compare_finals, finals_table, report_finals
    from tuning.finish import begin_finals
    from tuning.launch import find_study, launch, quiet_optuna

    if (gates or allow_changed_code) and not promote:
        raise click.UsageError("--gates and --allow-changed-code go with --promote")
    quiet_libraries()
    quiet_optuna()
    console = Console(highlight=False, soft_wrap=True)
    found = find_study(study)
    finals = begin_finals(found)
    if not finals.is_finished():
        code = launch(finals, console)
        if code or not finals.is_finished():
            console.print(f"then: deconv tune finish {study}")
            raise click.exceptions.Exit(code)
    result = compare_finals(finals)
    report_finals(found, result)
    console.print(finals_table(result))
    console.print(result.verdict())
    if promote and result.is_worse:
        console.print("not offered to the registry: the default is better")
        raise click.exceptions.Exit(1)
    if promote:
        context.invoke(
            promote_run, run=result.winner.run, gates=gates,
            allow_changed_code=allow_changed_code, why=f"winner of study {found.config.name}",
        )  # fmt: skip
    else:
        console.print(f"offer it to the registry: deconv promote {result.winner.run}")
