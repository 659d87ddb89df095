"""`deconv rollback`."""

import click


@click.command()
@click.option("--why", default="", help="Reason, for the record.")
def rollback(why: str) -> None:
    """Make the previous model production again (and once more to undo that)."""
    from experiments.console import quiet_libraries
    from experiments.names import MODEL_NAME, PREVIOUS, PRODUCTION
    from experiments.promotion import rollback as roll_back
    from experiments.store import require_answer

    quiet_libraries()
    require_answer()
    to, before = roll_back(why=why)
    click.echo(f"{MODEL_NAME}: {PRODUCTION} is version {to} now, {PREVIOUS} is {before}")
