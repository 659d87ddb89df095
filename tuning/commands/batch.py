"""`deconv batch`, here or as a job array of the cluster."""

import os
from pathlib import Path

import click

from experiments.commands.options import analyses, records


@click.command()
@click.argument("sheet", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the results, the same as of deconv predict.",
)  # fmt: skip
@analyses
@records
@click.option("--jobs", type=click.IntRange(1), help="Processes here, or tasks of the array.")
@click.option("--at-once", type=click.IntRange(1), help="Tasks of the array at a time.")
@click.option(
    "--slurm", is_flag=False, flag_value="gpua100", metavar="[PROFILE]",
    help="Submit it to SLURM: a profile's YAML file or name. Last, or --slurm=PROFILE.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the sbatch scripts only.")
@click.option("--retry", is_flag=True, help="Try again what could not be analysed.")
@click.option("--share-of", type=click.IntRange(1), hidden=True)
@click.option("--share", type=int, envvar="SLURM_ARRAY_TASK_ID", hidden=True)
@click.option("--parent", type=int, hidden=True)
@click.option("--gather", "only_gather", is_flag=True, hidden=True)
@click.pass_context
def batch(
    ctx: click.Context,
    sheet: Path,
    folder: Path | None,
    model: str,
    build: str,
    pseudo_coverage: int | None,
    min_overlap: float,
    records: Path | None,
    record_names: bool,
    jobs: int | None,
    at_once: int | None,
    slurm: str | None,
    dry_run: bool,
    retry: bool,
    share_of: int | None,
    share: int | None,
    parent: int | None,
    only_gather: bool,
) -> None:
    """Analyse the samples of SHEET (CSV or TSV with sample, path, ...) in many processes.

    The model is what its name means when the batch is begun. Samples that cannot be analysed are
    listed in failed.csv, and the exit status is 1 if there are any. The same command, or
    `deconv batch FOLDER`, goes on where it was stopped.
    """
    from experiments.batch_plan import Asked, begin, files_of, has_plan, read_plan
    from experiments.console import quiet_libraries
    from experiments.outputs import check_output
    from experiments.prediction_records import require_writable
    from tuning.batch import n_tasks, scripts

    quiet_libraries()
    if folder is None:
        if not has_plan(sheet):
            raise click.UsageError("-o FOLDER is needed, or the FOLDER of a batch that was begun")
        folder = sheet
    folder = folder.absolute()
    if share_of is not None:
        from experiments.batch import work

        if share is None:
            raise click.UsageError("--share-of goes with --share, or in a task of a job array")
        work(folder, share, share_of, parent=parent)
        return
    if only_gather:
        _finish(ctx, folder)
        return
    if (dry_run or at_once is not None) and slurm is None:
        raise click.UsageError("--dry-run and --at-once go with --slurm")
    if dry_run:
        from tuning.reading import load_profile

        table = Path(read_plan(folder).asked.sheet) if has_plan(sheet) else sheet
        of = n_tasks(len(files_of(table)), jobs, here=False)
        array, gathering = scripts(folder, load_profile(slurm or ""), [*range(of)], of, at_once)
        click.echo(f"{array}\n{gathering('JOB')}", nl=False)
        return
    check_output(folder)
    if has_plan(sheet):
        plan = read_plan(folder)
    else:
        if records is not None:
            require_writable(records)
        asked = Asked(
            str(sheet.absolute()), model, build, pseudo_coverage, min_overlap,
            None if records is None else str(records.absolute()), record_names,
        )  # fmt: skip
        plan = begin(folder, asked)
    for note in plan.notes:
        click.echo(note)
    _go_on(ctx, folder, jobs=jobs, at_once=at_once, slurm=slurm, retry=retry)


def _go_on(
    ctx: click.Context,
    folder: Path,
    *,
    jobs: int | None,
    at_once: int | None,
    slurm: str | None,
    retry: bool,
) -> None:
    """Do what is missing, or submit it; where nothing is, gather."""
    from experiments.batch import failing, forget, missing
    from experiments.batch_plan import files_of, read_plan
    from experiments.console import going_through
    from tuning.batch import n_tasks, submit_batch, work_here
    from tuning.reading import load_profile

    plan = read_plan(folder)
    if retry:
        forget(folder, failing(folder, plan))
    waiting = missing(folder, plan)
    n_files = len(files_of(Path(plan.asked.sheet)))
    if waiting and slurm is not None:
        of = n_tasks(n_files, jobs, here=False)
        found, n = submit_batch(folder, plan, load_profile(slurm), of=of, at_once=at_once)
        if not n:
            click.echo(f"job(s) {', '.join(found)} of an earlier call still wait or run")
            return
        click.echo(f"job {found[0]}: {n} tasks for {len(waiting)} of {n_files} files")
        click.echo(f"job {found[1]}: gathers the results into {folder}")
        return
    if waiting:
        with going_through("analysing") as advance:
            of = n_tasks(n_files, jobs, here=True)
            work_here(folder, plan, jobs=of, tick=advance)
    _finish(ctx, folder)


def _finish(ctx: click.Context, folder: Path) -> None:
    from experiments.gather import FAILED, gather

    found = gather(folder)
    n_samples = found.prediction.table["sample"].nunique()
    click.echo(f"{n_samples} sample(s) analysed")
    for path in found.written:
        click.echo(os.path.relpath(path) if path.is_relative_to(Path.cwd()) else path)
    if found.failed:
        click.echo(
            f"{len(found.failed)} sample(s) could not be analysed, see {FAILED};"
            f" deconv batch --retry {folder} tries them again",
            err=True,
        )
        ctx.exit(1)
