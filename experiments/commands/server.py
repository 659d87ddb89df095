"""`deconv server`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from experiments.server.settings import ServerSettings

Command = TypeVar("Command", bound=Callable[..., Any])


def settings_options(command: Command) -> Command:
    """Add the options that choose a server."""
    for option in (
        click.option("--set", "overrides", multiple=True, help="key=value, of the profile."),
        click.option(
            "--config", type=click.Path(path_type=Path, dir_okay=False),
            help="Your own copy of mlruns_config/server.yaml.",
        ),
        click.option("--profile", default="embedded", show_default=True),
    ):  # fmt: skip
        command = option(command)
    return command


def _load(profile: str, config: Path | None, overrides: tuple[str, ...]) -> "ServerSettings":
    from experiments.console import quiet_libraries
    from experiments.server.settings import load_settings

    quiet_libraries()
    return load_settings(profile, config, overrides)


@click.group()
def server() -> None:
    """Run the tracking server of a lab: start, users, back up, clean, move to PostgreSQL."""


@server.command()
@settings_options
@click.option("--detach", is_flag=True, help="Return once it answers; the log is in its folder.")
def start(profile: str, config: Path | None, overrides: tuple[str, ...], detach: bool) -> None:
    """Start the server and wait until it answers."""
    settings = _load(profile, config, overrides)
    from experiments.server.launch import start, stay

    started, process = start(settings, detach=detach)
    click.echo(f"{started.address} answers (process {started.pid})")
    if detach:
        click.echo(f"log: {settings.state / 'server.log'}; end it with: deconv server stop")
        process.returncode = 0  # it lives on by intent
        return
    raise click.exceptions.Exit(stay(settings, started, process))


@server.command()
@settings_options
def stop(profile: str, config: Path | None, overrides: tuple[str, ...]) -> None:
    """Stop the server; what it was asked, it answers first."""
    settings = _load(profile, config, overrides)
    from experiments.server.process import stop

    click.echo(stop(settings))


@server.command()
@settings_options
def status(profile: str, config: Path | None, overrides: tuple[str, ...]) -> None:
    """Say whether the server runs, on what, with how much in it. Exits with 3 if it does not."""
    settings = _load(profile, config, overrides)
    from experiments.server.status import describe

    up, facts = describe(settings)
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value}")
    if not up:
        raise click.exceptions.Exit(3)


@server.command()
@settings_options
@click.argument("folder", type=click.Path(path_type=Path))
def backup(profile: str, config: Path | None, overrides: tuple[str, ...], folder: Path) -> None:
    """Copy database and artifacts, as of one moment, to a new FOLDER; the server may run."""
    settings = _load(profile, config, overrides)
    from experiments.server.backup import back_up

    done = back_up(settings, folder)
    click.echo(f"{folder}: {done.runs} runs, {done.artifacts} artifacts, {done.size / 1e6:.1f} MB")
    for place in done.left_out:
        click.echo(f"not in it: {place}", err=True)


@server.command()
@settings_options
@click.option("--replace", is_flag=True, help="Also where there are runs, which are lost.")
@click.argument("folder", type=click.Path(path_type=Path))
def restore(
    profile: str, config: Path | None, overrides: tuple[str, ...], replace: bool, folder: Path
) -> None:
    """Compare the hashes of the backup in FOLDER, then put it in place of an empty server."""
    settings = _load(profile, config, overrides)
    from experiments.server.restore import restore

    done = restore(settings, folder, replace=replace)
    click.echo(f"{done.runs} runs and {done.artifacts} artifacts are in place")


@server.command()
@settings_options
@click.option(
    "--older-than", "days", default=30.0, show_default=True, type=click.FloatRange(min=0),
    help="Days.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def gc(
    profile: str, config: Path | None, overrides: tuple[str, ...], days: float, dry_run: bool
) -> None:
    """Delete failed and deleted runs and superseded checkpoints, never of a registered model."""
    settings = _load(profile, config, overrides)
    from experiments.server.retention import collect

    waste, n_files = collect(settings, days=days, dry_run=dry_run)
    for item in waste:
        click.echo(f"{item.kind:<5}  {item.name}  ({item.why})")
    done = "would go" if dry_run else f"deleted, with {n_files} files"
    click.echo(f"{len(waste)} thing(s) older than {days:g} days {done}")


@server.command()
@settings_options
@click.option(
    "--from", "source", default="embedded", show_default=True, help="Profile with SQLite."
)
@click.option(
    "--from-set", "changes", multiple=True, help="key=value, of the profile with SQLite."
)
def migrate(
    profile: str,
    config: Path | None,
    overrides: tuple[str, ...],
    source: str,
    changes: tuple[str, ...],
) -> None:
    """Copy an SQLite store with its artifacts into an empty server (--profile production)."""
    target = _load(profile, config, overrides)
    from experiments.server.migrate import migrate

    done = migrate(_load(source, config, changes), target)
    width = max(map(len, done.rows), default=0)
    for name, n_rows in done.rows.items():
        click.echo(f"{name:<{width}}  {n_rows}")
    click.echo(f"all rows compared; {done.artifacts} artifacts copied")
    for place in done.left:
        click.echo(f"stays where it is, the server cannot serve it: {place}", err=True)


@server.command()
@click.argument("name")
@click.option(
    "--may", "access", type=click.Choice(["read", "train", "promote"]), required=True,
    help="Each with what comes before it; only the admin may delete.",
)  # fmt: skip
def user(name: str, access: str) -> None:
    """Let NAME read, train or promote on the server of MLFLOW_TRACKING_URI, as its admin.

    DECONV_USER_PASSWORD, or _FILE, has the password of a new user, or a new one.
    """
    from experiments.console import quiet_libraries
    from experiments.server.users import let_in

    quiet_libraries()
    is_new = let_in(name, access)
    click.echo(f"{name} may {access}" + (" (new user)" if is_new else ""))
