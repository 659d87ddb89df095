"""`deconv models`."""

import click

from experiments.names import MODEL_NAME, PRODUCTION


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, with every verdict.")
@click.option(
    "--fetch", metavar="[MODEL]", is_flag=False,
    flag_value=f"models:/{MODEL_NAME}@{PRODUCTION}",
    help="Put a registered model (by default production) into this machine's cache, for nodes"
    " that do not reach the registry.",
)  # fmt: skip
def models(as_json: bool, fetch: str | None) -> None:
    """List the registered models and the moves of `production`: what, who, when and why."""
    import json
    from dataclasses import asdict

    from rich.console import Console

    from experiments.console import quiet_libraries
    from experiments.listing import list_models, list_moves, models_table, moves_table
    from experiments.store import TrackingError

    quiet_libraries()
    if fetch is not None:
        from experiments.model_cache import fetch_cached

        fetched = fetch_cached(fetch)
        if fetched.note:
            raise TrackingError("not fetched anew", where=fetch, got=fetched.note)
        click.echo(f"version {fetched.version}, SHA-256 {fetched.sha256}\n{fetched.folder}")
        return
    found, moved = list_models(), list_moves()
    if as_json:
        content = {"versions": [asdict(m) for m in found], "moves": [asdict(m) for m in moved]}
        click.echo(json.dumps(content, indent=1))
        return
    console = Console(highlight=False)
    console.print(models_table(found))
    console.print(moves_table(moved))
