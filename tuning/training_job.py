"""A single training run as a job of the cluster."""

from pathlib import Path

import click

from experiments.config import OutputConfig, load_config
from experiments.launch import find_run
from experiments.rundir import RunFolder
from tuning.reading import load_profile
from tuning.slurm import job_script, submit


def submit_training(
    profile: str,
    *,
    dry_run: bool,
    config: str | None,
    data: str | None,
    overrides: tuple[str, ...],
    resume: str | None,
    device: str,
) -> None:
    """Submit a run that begins, and goes on after every interruption, in a folder of its own.

    Raises
    ------
    DeconvError
        If the configuration is wrong or SLURM refuses.
    """
    asked = load_profile(profile)
    moved: list[str] = []
    if resume is not None:
        given = None if config is None else load_config(config, overrides=overrides, data=data)
        folder, run = find_run(resume, given, data)
        if run.data.path not in (None, folder.config().data.path):
            moved = ["--data", str(run.data.path)]
    elif config is None:
        raise click.UsageError("a CONFIG is needed, or --resume RUN")
    else:
        run = load_config(config, overrides=overrides, data=data)
        if dry_run:
            folder = RunFolder(Path(OutputConfig().directory) / f"{Path(config).stem}-TIME-ID")
        else:
            folder = RunFolder.create(run, Path(config).stem)
    path = folder.path.absolute()
    logs = path.parent / "slurm"  # not among the run's artifacts: they grow
    script = job_script(
        asked, name=f"train-{path.name}", log=logs / f"{path.name}-%j.log",
        arguments=["train", "--resume", str(path), "--device", device, *moved],
    )  # fmt: skip
    if dry_run:
        click.echo(script, nl=False)
        return
    job = submit(script, logs / f"{path.name}.sh")
    click.echo(f"job {job}\nfolder {folder.path}\nlog {logs / f'{path.name}-{job}.log'}")
