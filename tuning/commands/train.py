"""`deconv train`, here or as a job of the cluster."""

from typing import Any

import click

from experiments.commands.train import train as train_here


def _train(*, slurm: str | None, dry_run: bool, **given: Any) -> None:
    if slurm is None:
        if dry_run:
            raise click.UsageError("--dry-run goes with --slurm")
        click.get_current_context().invoke(train_here, **given)
        return
    from tuning.training_job import submit_training

    submit_training(slurm, dry_run=dry_run, **given)


train = click.Command(
    "train",
    callback=_train,
    help=train_here.help,
    params=[
        *train_here.params,
        click.Option(
            ["--slurm"], is_flag=False, flag_value="gpua100", metavar="[PROFILE]",
            help="Submit it to SLURM: a profile's YAML file or name. Last, or --slurm=PROFILE.",
        ),
        click.Option(["--dry-run"], is_flag=True, help="Print the sbatch script only."),
    ],
)  # fmt: skip
