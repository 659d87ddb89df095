"""`deconv promote`."""

from functools import partial
from pathlib import Path

import click


@click.command()
@click.argument("run", required=False)
@click.option("--best", is_flag=True, help="The best sparse run of the experiment: the default.")
@click.option("--study", help="The best sparse run of this study.")
@click.option(
    "--benchmark", type=click.Path(path_type=Path, dir_okay=False),
    help="Samples of known proportions that both models answer anew (see deconv freeze); by "
    "default their runs' own test mixtures decide.",
)  # fmt: skip
@click.option(
    "--gates", type=click.Path(path_type=Path, dir_okay=False), help="Rules other than the usual."
)
@click.option("--allow-changed-code", is_flag=True, help="Accept uncommitted changes of the code.")
@click.option("--why", default="", help="Reason, for the record.")
@click.option("--dry-run", is_flag=True, help="Show the decision, change nothing.")
def promote(
    run: str | None, best: bool, study: str | None, benchmark: Path | None, gates: Path | None,
    allow_changed_code: bool, why: str, dry_run: bool,
) -> None:  # fmt: skip
    """Make the model of RUN (a folder, name or MLflow id) production, if it meets the rules.

    Without RUN the finished sparse runs of the experiment are tried, the best first, until one
    meets the rules or is production already; one that was rolled back is left out.
    """
    if run is not None and (best or study is not None):
        raise click.UsageError("give RUN, --study or --best, not two of them")
    from rich.console import Console

    from deconv.errors import CheckpointError, ConfigError, InputError, MismatchError
    from experiments.config import OutputConfig
    from experiments.console import quiet_libraries, verdict_table
    from experiments.gates import load_policy
    from experiments.names import MODEL_NAME, PRODUCTION
    from experiments.promotion import promote as promote_run
    from experiments.referee import read_benchmark
    from experiments.registry import sparse_runs
    from experiments.rundir import run_id_of
    from experiments.store import RefusedError, require_answer

    # What is wrong with one run does not keep the next from being tried.
    of_the_run = (CheckpointError, ConfigError, InputError, MismatchError, RefusedError)
    quiet_libraries()
    output = OutputConfig()
    run_ids = (
        sparse_runs(output.experiment, study)
        if run is None else [run_id_of(run, output.directory)]
    )  # fmt: skip
    require_answer()
    judge = partial(
        promote_run, benchmark=None if benchmark is None else read_benchmark(benchmark),
        policy=load_policy(gates), allow_changed_code=allow_changed_code, dry_run=dry_run, why=why,
        once=run is None,
    )  # fmt: skip
    console = Console(highlight=False, soft_wrap=True)
    for run_id in run_ids:
        try:
            decision = judge(run_id)
        except of_the_run as error:
            if run is not None:
                raise
            console.print(f"run {run_id}: {error}", markup=False)
            continue
        console.print(verdict_table(decision.verdicts))
        if decision.version is not None:
            console.print(f"run {run_id} is version {decision.version} of {MODEL_NAME}")
        if decision.promoted:
            console.print(f"models:/{MODEL_NAME}@{PRODUCTION} is this model now")
            return
        failed = [verdict for verdict in decision.verdicts if not verdict.passed]
        if dry_run and not failed:
            console.print(f"would be promoted: run {run_id}")
            return
        for verdict in failed:
            console.print(f"refused: {verdict.rule}: {verdict.reason}")
    console.print(f"not promoted: {PRODUCTION} stays as it was")
    raise click.exceptions.Exit(1)
