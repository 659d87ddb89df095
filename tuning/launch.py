"""Start a study's workers where its configuration says, and find studies again."""

import sys
from pathlib import Path

import optuna
from optuna.trial import TrialState
from rich.console import Console
from rich.live import Live

from deconv.errors import ConfigError, InputError
from tuning.config import LocalConfig, StudyConfig
from tuning.local import FINISHED, supervise, visible_gpus
from tuning.parent import begin_parent, conclude_parent
from tuning.reading import load_profile, load_study_config
from tuning.slurm import cancel, gpus_of, study_script, submit
from tuning.status import status_table, study_status
from tuning.study import STUDY, Study
from tuning.watching import Teller, every


def find_study(name: str, directory: str = "studies") -> Study:
    """Open a study by folder, by name in ``directory``, or by its YAML file.

    Raises
    ------
    ConfigError
        If there is none.
    """
    for folder in (Path(name), Path(directory) / name):
        if (folder / STUDY).is_file():
            return Study(folder.absolute())
    if Path(name).is_file():
        folder = load_study_config(Path(name)).folder
        if (folder / STUDY).is_file():
            return Study(folder.absolute())
        raise ConfigError(
            "the study was not started", where=folder, expected=f"deconv tune {name}"
        )
    raise ConfigError(
        "no such study", got=name, expected=f"a folder, a name in {directory}, or a YAML file"
    )


def start(source: str, console: Console, *, dry_run: bool = False) -> int:
    """Begin a study, or go on with it; return an exit code.

    Parameters
    ----------
    source
        The study's YAML file; its folder or name goes on with one that is there.
    dry_run
        Show what would be submitted or run, and touch nothing.

    Raises
    ------
    DeconvError
        If configuration, data, storage or SLURM do not fit.
    """
    quiet_optuna()
    if Path(source).is_file():
        config = load_study_config(Path(source))
        if dry_run:
            _show(config, console)
            return FINISHED
        _require_data(config)
        study = Study.begin(config)
    else:
        study = find_study(source)
        if dry_run:
            _show(study.config, console)
            return FINISHED
    return launch(study, console)


def launch(study: Study, console: Console) -> int:
    """Let workers work at a study that was begun; return an exit code."""
    study.set_stopped(False)
    study.forgive_failures()
    begin_parent(study)
    if study.is_finished():
        conclude_parent(study)
        console.print("the study is finished; deconv tune extend allows more", highlight=False)
        return FINISHED
    where = study.config.where
    if isinstance(where, LocalConfig):
        # More GPUs than workers: the rest is idle, and costs this study nothing.
        n_gpus = len(visible_gpus(where.device))
        study.set_gpus_per_worker(min(n_gpus / where.processes, 1.0))
        return work_here(
            study, console, processes=where.processes, threads=where.threads, device=where.device
        )
    profile = load_profile(where.profile)
    study.set_gpus_per_worker(gpus_of(profile) / where.processes)
    job = submit(study_script(study.folder, where, profile), study.folder / "workers.sh")
    with (study.folder / "jobs.txt").open("a") as file:
        file.write(f"{job}\n")
    console.print(
        f"job {job}: {where.jobs} tasks of {where.processes} workers; see\n"
        f"deconv tune watch {study.folder}",
        highlight=False,
    )
    return FINISHED


def work_here(
    study: Study, console: Console, *, processes: int, threads: int | None, device: str
) -> int:
    """Run workers on this machine and show what they do; return an exit code."""
    if sys.stderr.isatty():
        with Live(console=console, refresh_per_second=2, transient=True) as live:
            show = every(lambda: live.update(status_table(study_status(study))))
            code = supervise(
                study.folder, processes=processes, threads=threads, device=device, tick=show
            )
    else:
        tell = Teller(study, console)
        code = supervise(
            study.folder, processes=processes, threads=threads, device=device, tick=every(tell)
        )
        tell()
    if study.is_finished() or code != FINISHED:
        conclude_parent(study)
    return code


def stop(study: Study) -> int:
    """Ask all workers to leave at a checkpoint; return how many trials they hold."""
    study.set_stopped(True)
    jobs = study.folder / "jobs.txt"
    if jobs.exists():
        cancel(jobs.read_text().split())
    return sum(t.state == TrialState.RUNNING for t in study.trials())


def quiet_optuna() -> None:
    """Leave telling to the product."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _show(config: StudyConfig, console: Console) -> None:
    where = config.where
    if isinstance(where, LocalConfig):
        console.print(f"{where.processes} workers on this machine", highlight=False)
    else:
        script = study_script(config.folder.absolute(), where, load_profile(where.profile))
        console.print(script, end="", markup=False, highlight=False, soft_wrap=True)


def _require_data(config: StudyConfig) -> None:
    if config.data is not None and not Path(config.data).exists():
        raise InputError("no such data", where="data", got=config.data)
