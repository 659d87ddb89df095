"""The command `deconv`. Packages add sub-commands as entry points of `deconv.commands`."""

import sys
from importlib import metadata
from typing import Any

import click

from deconv.errors import DeconvError
from deconv.files import disk_errors

GROUP = "deconv.commands"


class EntryPointGroup(click.Group):
    """A group whose commands are found by entry point and loaded when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(entry.name for entry in metadata.entry_points(group=GROUP))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command, None if there is none of that name."""
        for entry in metadata.entry_points(group=GROUP, name=cmd_name):
            command: click.Command = entry.load()
            return command
        return None


@click.group(cls=EntryPointGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="deconv")
def cli() -> None:
    """Find out which tissues a DNA sample comes from, and how much from each."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line: status 2 and one message for an error a user can act on."""
    try:
        with disk_errors("deconv", "space to write"):
            return cli.main(arguments, prog_name="deconv", standalone_mode=False)
    except DeconvError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except click.Abort:  # Ctrl-C, where a command did not say more
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
