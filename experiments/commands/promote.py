"""`deconv promote`."""

import click


@click.command()
@click.argument("run", required=False)
def promote(run: str | None) -> None:
    """Make the model of RUN (a folder, name or MLflow id) production, if it meets the rules.

    Without RUN it is the best finished sparse run of the experiment.
    """
    from rich.console import Console

    from experiments.config import OutputConfig
    from experiments.console import quiet_libraries, verdict_table
    from experiments.registry import MODEL_NAME, PRODUCTION, best_sparse_run
    from experiments.registry import promote as promote_run
    from experiments.rundir import run_id_of

    quiet_libraries()
    output = OutputConfig()
    run_id = (
        best_sparse_run(output.experiment) if run is None else run_id_of(run, output.directory)
    )
    decision = promote_run(run_id)
    console = Console()
    console.print(verdict_table(decision.verdicts))
    if decision.version is not None:
        console.print(
            f"run {run_id} is version {decision.version} of {MODEL_NAME}", highlight=False
        )
    if not decision.promoted:
        console.print(f"not promoted: {PRODUCTION} stays as it was", highlight=False)
        raise click.exceptions.Exit(1)
    console.print(f"models:/{MODEL_NAME}@{PRODUCTION} is this model now", highlight=False)
