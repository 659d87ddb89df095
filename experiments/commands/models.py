"""`deconv models`."""

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, with every verdict.")
def models(as_json: bool) -> None:
    """List the registered models and the moves of `production`: what, who, when and why."""
    import json
    from dataclasses import asdict

    from rich.console import Console

    from experiments.console import quiet_libraries
    from experiments.listing import list_models, list_moves, models_table, moves_table

    quiet_libraries()
    found, moved = list_models(), list_moves()
    if as_json:
        content = {"versions": [asdict(m) for m in found], "moves": [asdict(m) for m in moved]}
        click.echo(json.dumps(content, indent=1))
        return
    console = Console(highlight=False)
    console.print(models_table(found))
    console.print(moves_table(moved))
