"""`deconv sync`."""

from pathlib import Path

import click


@click.command()
@click.argument("folders", metavar="[FOLDER]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--directory", default="runs", show_default=True, help="Of runs, without FOLDER.")
@click.option(
    "--from-start", is_flag=True,
    help="Send all again: the store lost runs, or was put back from a backup.",
)  # fmt: skip
def sync(folders: tuple[Path, ...], directory: str, from_start: bool) -> None:
    """Send what the tracking server does not have of the runs in FOLDERs.

    Nothing is sent twice, however often this is called, or stopped, or called at once.
    """
    from deconv.errors import DeconvError
    from experiments.console import quiet_libraries
    from experiments.sync import BusyError, spools_in, sync_folder

    quiet_libraries()
    n_left, n_wrong = 0, 0
    folders = folders or tuple(spools_in(Path(directory)))
    if not folders:
        click.echo(f"no runs in {directory}")
    for folder in folders:
        try:
            synced = sync_folder(folder, from_start=from_start)
        except BusyError as error:
            click.echo(f"{error}; it sends everything")
            continue
        except DeconvError as error:  # of this folder; the others wait for nothing
            click.echo(f"error: {error}", err=True)
            n_wrong += 1
            continue
        for problem in summary(synced.problems):
            click.echo(problem, err=True)
        state = f"{synced.n_sent} records sent, {synced.n_left} left"
        click.echo(f"{folder}: {state}, run {synced.run_id or 'not there yet'}")
        n_left += synced.n_left + len(synced.problems)
        if synced.is_away:
            break  # the others would wait for the same answer
    if n_wrong or n_left:
        raise click.exceptions.Exit(2 if n_wrong else 1)


def summary(problems: list[str]) -> list[str]:
    """Return the first problem of each kind, and how many more there are of it."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:  # where: what; got ...
        kind = problem.partition(": ")[2].partition("; got ")[0]
        kinds.setdefault(kind, []).append(problem)
    return [
        first + (f" (and {len(more)} more like it)" if more else "")
        for first, *more in kinds.values()
    ]
