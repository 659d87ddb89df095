"""Jobs: the scripts that plain ``sbatch`` gets, and their submission.

Every script does what it does again when SLURM runs it again, after a preemption, a lost node
or the time limit: its work goes on where it was. ``B:USR1`` comes before the time limit, TERM
at a preemption or `scancel`; both are passed on, and the work stops at a checkpoint.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deconv.errors import DeconvError
from tuning.config import SlurmConfig, SlurmProfile

_BODY = r"""
set -u
{setup}cd {folder}
asked=
stop() {{ asked=$1; [ -z "${{work:-}}" ] || kill -TERM "$work" 2> /dev/null; }}
trap 'stop USR1' USR1
trap 'stop TERM' TERM
for attempt in 1 2 3; do
    [ -z "$asked" ] || break
    {command} &
    work=$!
    while :; do
        wait "$work"; code=$?
        kill -0 "$work" 2> /dev/null || break   # else a signal ended the wait, not the work
    done
    [ "$code" -eq 137 ] || break                # killed, perhaps for its memory: once more
done
# The time limit is near: go on in a new slot of the queue. An array's last task has the number
# of the whole array, which is not to be requeued.
job=${{SLURM_ARRAY_JOB_ID:+${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID}}
if [ "$asked" = USR1 ] && [ "$code" -ne 0 ]; then
    scontrol requeue "${{job:-$SLURM_JOB_ID}}"
    sleep 60
fi
exit "$code"
"""


class SlurmError(DeconvError):
    """SLURM is not here, or refuses a job."""


def study_script(folder: Path, config: SlurmConfig, profile: SlurmProfile) -> str:
    """Return the script of a study's workers, a job array."""
    at_once = "" if config.at_once is None else f"%{config.at_once}"
    work = [
        "tune", "work", str(folder), "--processes", str(config.processes),
        "--device", config.device,
    ]  # fmt: skip
    if config.threads is not None:
        work += ["--threads", str(config.threads)]
    return job_script(
        profile, name=f"tune-{folder.name}", log=folder / "logs" / "slurm-%A_%a.log",
        arguments=work, array=f"0-{config.jobs - 1}{at_once}",
    )  # fmt: skip


def job_script(
    profile: SlurmProfile,
    *,
    name: str,
    log: Path,
    arguments: Sequence[str],
    array: str | None = None,
    after: str | None = None,
) -> str:
    """Return a script that runs ``deconv`` with these arguments, here.

    ``after`` is a job that has to end first, however it does.
    """
    asked = {
        "job-name": name, "partition": profile.partition, "gres": profile.gres,
        "nodes": 1, "ntasks": 1, "cpus-per-task": profile.cpus_per_task, "mem": profile.mem,
        "time": profile.time, "account": profile.account, "array": array, "output": log,
        "dependency": None if after is None else f"afterany:{after}",
        "open-mode": "append", "signal": f"B:USR1@{profile.signal_seconds}",
    }  # fmt: skip
    head = [f"#SBATCH --{key}={value}" for key, value in asked.items() if value is not None]
    head += ["#SBATCH --requeue", *(f"#SBATCH {option}" for option in profile.options)]
    body = _BODY.format(
        setup="".join(f"{line}\n" for line in profile.setup),
        folder=shlex.quote(str(Path.cwd())),
        command=shlex.join([sys.executable, "-m", "deconv", *arguments]),
    )
    return "\n".join(["#!/bin/bash", *head]) + body


def submit(script: str, path: Path) -> str:
    """Write a script and hand it to SLURM; return the job's number.

    Raises
    ------
    SlurmError
        If there is no SLURM, or it refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    command = ["sbatch", "--parsable", str(path)]
    # A job submitted from within a job would inherit that one's variables.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
    environment |= {k: v for k, v in os.environ.items() if k == "SLURM_CONF"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    except FileNotFoundError as error:
        raise SlurmError(
            "SLURM is not here", got="no sbatch",
            expected="a cluster's login node, or --dry-run to see the script",
        ) from error  # fmt: skip
    if done.returncode:
        raise SlurmError(
            "SLURM refuses the job", where=path, got=done.stderr.strip().splitlines()[-1]
        )
    return done.stdout.strip().partition(";")[0]


def cancel(jobs: Sequence[str]) -> None:
    """Take jobs that wait out of the queue; errors as of `submit`."""
    try:
        subprocess.run(["scancel", "--state=PENDING", *jobs], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise SlurmError("SLURM is not here", got="no scancel") from error


def in_queue(jobs: Sequence[str]) -> list[str]:
    """Return those of the jobs that wait or run; errors as of `submit`."""
    try:
        done = subprocess.run(["squeue", "-h", "-o", "%F"], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise SlurmError("SLURM is not here", got="no squeue") from error
    if done.returncode:
        raise SlurmError("SLURM does not answer", got=done.stderr.strip().splitlines()[-1])
    there = set(done.stdout.split())
    return [job for job in jobs if job in there]


def gpus_of(profile: SlurmProfile) -> float:
    """Return the GPUs that a job holds: the number at the end of ``gres``."""
    if profile.gres is None or "gpu" not in profile.gres:
        return 0.0
    last = profile.gres.rpartition(":")[2]
    return float(last) if last.isdigit() else 1.0
