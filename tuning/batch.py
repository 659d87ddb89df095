"""Where a batch is worked at: processes of this machine, or a job array and one that gathers."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from deconv.errors import DeconvError
from experiments.batch import missing, share, work
from experiments.batch_plan import PLACE, Plan, files_of
from tuning.config import SlurmProfile
from tuning.local import REFUSED
from tuning.slurm import in_queue, job_script, submit

FILES_PER_TASK, MAX_TASKS = 50, 1000
"""Of a job array; SLURM's own limit is 1001 tasks unless a cluster changed it."""
_ATTEMPTS = 3  # of a process that dies; what killed it may be one file, which it then meets again
_PAUSE = 0.2


@dataclass(frozen=True)
class _Task:
    number: int
    process: subprocess.Popen[bytes]
    attempt: int


def n_tasks(n_files: int, jobs: int | None, *, here: bool) -> int:
    """Return into how many shares the files are divided."""
    if jobs is None:
        jobs = min(os.cpu_count() or 1, 8) if here else -(-n_files // FILES_PER_TASK)
    return max(min(jobs, n_files, MAX_TASKS), 1)


def work_here(folder: Path, plan: Plan, *, jobs: int, tick: Callable[[int, int], None]) -> None:
    """Let processes of this machine analyse what has no result; one that dies is replaced.

    A single one is this process.

    Raises
    ------
    DeconvError
        If files have no result in the end.
    """
    n_files = len(files_of(Path(plan.asked.sheet)))
    if jobs == 1:
        work(folder, 0, 1, advance=tick)
        return
    waiting = missing(folder, plan)
    todo = [(n, 1) for n in _numbers(waiting, jobs, n_files)]
    running: list[_Task] = []
    told = n_files - len(waiting)
    with _stopping_all(running):
        while todo or running:
            while todo and len(running) < jobs:
                number, attempt = todo.pop(0)
                running.append(_Task(number, _start(folder, number, jobs), attempt))
            for task in list(running):
                if task.process.poll() is None:
                    continue
                running.remove(task)
                # One that was refused would be refused again.
                if task.process.returncode not in (0, REFUSED) and task.attempt < _ATTEMPTS:
                    todo.append((task.number, task.attempt + 1))
            found = sum(1 for _ in (folder / PLACE / "results").glob("*/*.json"))
            if found != told:
                told = found
                tick(min(found, n_files), n_files)
            time.sleep(_PAUSE)
    left = missing(folder, plan)
    if left:
        log = _log(folder, next(n for n in range(jobs) if left[0] in share(n, jobs, n_files)))
        lines = log.read_text().splitlines() if log.exists() else []
        raise DeconvError(
            f"{len(left)} file(s) have no result, as the work at them was ended",
            where=log, got=lines[-1] if lines else "nothing in its log",
            expected=f"more memory or fewer --jobs if it was killed; then deconv batch {folder}",
        )  # fmt: skip


def scripts(
    folder: Path, profile: SlurmProfile, numbers: list[int], of: int, at_once: int | None
) -> tuple[str, Callable[[str], str]]:
    """Return the script of the array, and, given its job, of the job that gathers."""
    logs, name = folder / PLACE / "logs", f"batch-{folder.name}"
    limit = "" if at_once is None else f"%{at_once}"
    array = job_script(
        profile, name=name, log=logs / "slurm-%A_%a.log",
        arguments=["batch", str(folder), "--share-of", str(of)],
        array=_ranges(numbers) + limit,
    )  # fmt: skip

    def gathering(job: str) -> str:
        return job_script(
            profile, name=f"{name}-gather", log=logs / "slurm-gather-%j.log",
            arguments=["batch", str(folder), "--gather"], after=job,
        )  # fmt: skip

    return array, gathering


def submit_batch(
    folder: Path, plan: Plan, profile: SlurmProfile, *, of: int, at_once: int | None
) -> tuple[list[str], int]:
    """Submit what has no result; return the jobs that are there and the tasks submitted.

    Without a task, the jobs are those of an earlier call, which still wait or run.

    Raises
    ------
    SlurmError
        If SLURM is not here, or refuses.
    """
    jobs = folder / PLACE / "jobs.txt"
    alive = in_queue(jobs.read_text().split()) if jobs.exists() else []
    if alive:
        return alive, 0
    numbers = _numbers(missing(folder, plan), of, len(files_of(Path(plan.asked.sheet))))
    array, gathering = scripts(folder, profile, numbers, of, at_once)
    (folder / PLACE / "logs").mkdir(parents=True, exist_ok=True)
    job = submit(array, folder / PLACE / "array.sh")
    last = submit(gathering(job), folder / PLACE / "gather.sh")
    jobs.write_text(f"{job}\n{last}\n")
    return [job, last], len(numbers)


def _numbers(waiting: list[int], of: int, n_files: int) -> list[int]:
    """Return the shares in which files wait."""
    files = set(waiting)
    return [n for n in range(of) if not files.isdisjoint(share(n, of, n_files))]


def _ranges(numbers: list[int]) -> str:
    """Return numbers as SLURM takes them: 0-3,7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def _log(folder: Path, number: int) -> Path:
    return folder / PLACE / "logs" / f"task-{number}.log"


def _start(folder: Path, number: int, of: int) -> "subprocess.Popen[bytes]":
    log = _log(folder, number)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "deconv", "batch", str(folder), "--share-of", str(of),
        "--share", str(number), "--parent", str(os.getpid()),
    ]  # fmt: skip
    threads = str(max((os.cpu_count() or 1) // of, 1))
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(command)}\n".encode())
        file.flush()
        return subprocess.Popen(
            command, stdout=file, stderr=file, env={"OMP_NUM_THREADS": threads, **os.environ}
        )


@contextmanager
def _stopping_all(running: list[_Task]) -> Iterator[None]:
    """End the processes that still run, on Ctrl-C and SIGTERM too."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        for task in running:
            task.process.terminate()
        for task in running:
            task.process.wait()
        signal.signal(signal.SIGTERM, before)
