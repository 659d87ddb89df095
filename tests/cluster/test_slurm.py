"""Studies and runs as jobs of a real SLURM, whose jobs, workers and nodes are killed."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
import yaml
from databases import TOOLS
from optuna.trial import TrialState
from ports import free_port
from small_models import register_bundle, write_small_bundle
from studies import DECONV, TINY, runs_of

from deconv.checkpoint import load_checkpoint
from deconv.evaluate import draw_mixtures
from deconv.store import write_h5ad
from experiments.launch import train_and_report
from experiments.run import BEST, LAST
from tuning.launch import find_study
from tuning.lease import lease_of
from tuning.trial_record import trial_folder

LAB_TOOLS = TOOLS / "slurm"
PROGRAMS = ("sbatch", "slurmctld", "slurmd", "munged")


class Cluster:
    """A SLURM of two virtual nodes with fake A100s."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {
            **os.environ, "SLURM_LAB": str(folder), "SLURM_LAB_PORT": str(free_port(3)),
            "SLURM_CONF": str(folder / "slurm.conf"),
        }  # fmt: skip

    def tool(self, name, *arguments):
        subprocess.run(
            [LAB_TOOLS / name, *arguments], env=self.environment, check=True,
            capture_output=True, timeout=120,
        )  # fmt: skip

    def jobs(self):
        """Job states by the number of an array's task."""
        done = subprocess.run(
            ["squeue", "-h", "-r", "-t", "all", "-o", "%i %T %N"],
            env=self.environment, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}


@pytest.fixture
def cluster(monkeypatch):
    missing = [p for p in PROGRAMS if shutil.which(p) is None]
    if missing:
        pytest.skip(f"SLURM is not installed: no {', '.join(missing)}")
    if os.geteuid():
        pytest.skip("the throw-away SLURM needs root")
    folder = Path(mkdtemp(prefix="deconv-slurm-"))
    folder.chmod(0o755)
    found = Cluster(folder)
    monkeypatch.setenv("SLURM_CONF", found.environment["SLURM_CONF"])
    try:
        found.tool("start-slurm.sh")
        yield found
    finally:
        found.tool("stop-slurm.sh")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def profile(place):
    """Write a profile for these nodes; keywords replace settings."""

    def write(**changed):
        content = {
            "partition": "gpua100", "gres": "gpu:a100:1", "cpus_per_task": 1, "mem": "1G",
            "time": "00:20:00", "signal_seconds": 20, "setup": ["export OMP_NUM_THREADS=1"],
            **changed,
        }  # fmt: skip
        (place / "profile.yaml").write_text(yaml.safe_dump(content))
        return "profile.yaml"

    return write


def command(*arguments):
    done = subprocess.run(
        [DECONV, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_for(condition, seconds=240, say=lambda: ""):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise TimeoutError(say())


def working(study):
    """The trials that workers hold now, by number, past their first epoch."""
    found = {}
    for trial in study.trials():
        lease = lease_of(trial)
        log = trial_folder(study, trial.number).path / "training_log.csv"
        if trial.state == TrialState.RUNNING and lease and lease.holder and log.exists():
            found[trial.number] = lease
    return found


def logs_of(study):
    return "\n".join(f"{p}:\n{p.read_text()}" for p in (study.folder / "logs").glob("*.log"))


def is_finished(study):
    return lambda: all(t.state.is_finished() for t in study.trials()) and study.is_finished()


def assert_whole(study, n_trials):
    """No trial is lost or double, each is in MLflow once."""
    trials = study.trials()
    assert [t.number for t in trials] == list(range(n_trials))
    reasons = {t.number: t.user_attrs.get("reason") for t in trials}
    assert {t.state for t in trials} == {TrialState.COMPLETE}, f"{reasons}\n{logs_of(study)}"
    runs = runs_of(study)
    assert set(runs) == {None, *range(n_trials)}
    assert {runs[n].info.status for n in range(n_trials)} == {"FINISHED"}
    parent = runs[None].info.run_id
    assert {runs[n].data.tags["mlflow.parentRunId"] for n in range(n_trials)} == {parent}
    return runs


def assert_as_if_never_stopped(study, numbers):
    torch.set_num_threads(1)
    for number in numbers:
        folder = trial_folder(study, number)
        config = folder.config().flat()
        overrides = [
            f"{k}={config[k]!r}" for k in ("loss.presence_weight", "loss.sparsity_weight")
        ]
        straight = train_and_report(
            "tiny.yaml", data=study.config.data, overrides=[*study.config.set, *overrides],
            device="cpu",
        ).folder  # fmt: skip
        for name in (BEST, LAST):
            one, other = (
                load_checkpoint(f / name).network.state_dict() for f in (straight, folder.path)
            )
            assert all(torch.equal(one[key], other[key]) for key in one), number
        logs = [(f / "training_log.csv").read_text() for f in (straight, folder.path)]
        assert logs[0] == logs[1]


def disturb(cluster, study, job, n_tasks):
    """Cancel a task, end the time of one, kill a worker, cut the power of a node.

    Returns the trials they held.
    """
    first = wait_for(
        lambda: len(working(study)) == n_tasks and working(study), say=lambda: logs_of(study)
    )
    node = {task: words[1] for task, words in cluster.jobs().items() if words[0] == "RUNNING"}
    subprocess.run(["scancel", f"{job}_0"], check=True)
    # What SLURM does signal_seconds before the time limit: the job is requeued.
    subprocess.run(["scancel", "--batch", "--signal=USR1", f"{job}_{n_tasks - 1}"], check=True)
    wait_for(lambda: not working(study), say=lambda: logs_of(study))
    victim = wait_for(lambda: working(study), say=lambda: logs_of(study))
    number, lease = next(iter(victim.items()))
    os.kill(int(lease.holder.split("/")[1]), signal.SIGKILL)
    wait_for(
        lambda: lease_of(study.trials()[number]).starts > lease.starts, say=lambda: logs_of(study)
    )
    # Another trial: one whose workers died twice has failed, and rightly so.
    cut = wait_for(
        lambda: {n: held for n, held in working(study).items() if not held.deaths},
        say=lambda: logs_of(study),
    )
    name = node[f"{job}_{n_tasks - 1}"]
    cluster.tool("kill-node.sh", name)
    subprocess.run(
        ["scontrol", "update", f"nodename={name}", "state=down", "reason=power"], check=True
    )
    cluster.tool("start-slurm.sh")
    subprocess.run(
        ["scontrol", "update", f"nodename={name}", "state=resume"],
        check=False,
        capture_output=True,
    )
    return {*first, *victim, *cut}


def test_array_survives_scancel_kill_and_power_cut(cluster, profile, write_study, database):
    file = write_study(
        storage=database, budget={"trials": 8}, lease_seconds=60,
        set=["training.num_epochs=20", "training.mixtures_per_epoch=64"],
        where={
            "kind": "slurm", "profile": profile(), "jobs": 2, "threads": 1, "device": "cpu",
        },
    )  # fmt: skip
    said = command("tune", file)
    study = find_study("study")
    (job,) = (study.folder / "jobs.txt").read_text().split()
    assert f"job {job}: 2 tasks" in said
    touched = disturb(cluster, study, job, 2)
    wait_for(is_finished(study), say=lambda: f"{cluster.jobs()}\n{logs_of(study)}")
    wait_for(lambda: runs_of(study)[None].info.status == "FINISHED")
    runs = assert_whole(study, 8)
    assert runs[None].data.tags["best.trial"].isdigit()
    assert_as_if_never_stopped(study, sorted(touched)[:2])
    said = command("tune", "status", "study")
    assert "8 of 8 trials started; 8 complete" in said


def test_workers_of_a_job_share_its_gpus_and_a_journal(cluster, profile, write_study):
    """Two workers and two GPUs a job: each sees one. The storage is a file on the shared disk."""
    file = write_study(
        budget={"trials": 4}, lease_seconds=60, set=["training.num_epochs=1"],
        where={
            "kind": "slurm", "profile": profile(gres="gpu:a100:2"), "jobs": 2, "processes": 2,
            "threads": 1,
        },
    )  # fmt: skip
    command("tune", file)
    study = find_study("study")
    wait_for(is_finished(study), say=lambda: f"{cluster.jobs()}\n{logs_of(study)}")
    assert study.gpus_per_worker == 1
    wait_for(lambda: runs_of(study)[None].info.status == "FINISHED", seconds=60)
    assert_whole(study, 4)
    jobs = {}
    for log in (study.folder / "logs").glob("worker-*.log"):
        name, _, index = log.stem.rpartition("-")
        jobs.setdefault(name, {})[index] = log.read_text().split("GPU ")[1].split()[0]
    assert len(jobs) == 2
    assert all(len(set(gpus.values())) == 2 for gpus in jobs.values()), jobs


@pytest.mark.slow
def test_32_trials_with_everything_that_befalls_a_cluster(cluster, profile, write_study, database):
    """Also a slurmd that dies alone, a preemption, and a time limit."""
    asked = profile(partition="preempt", gres="gpu:a100:2", signal_seconds=60)  # two tasks a node
    file = write_study(
        storage=database, budget={"trials": 32}, lease_seconds=60,
        set=["training.num_epochs=12", "training.mixtures_per_epoch=64"],
        where={"kind": "slurm", "profile": asked, "jobs": 4, "threads": 1, "device": "cpu"},
    )  # fmt: skip
    command("tune", file)
    study = find_study("study")
    (job,) = (study.folder / "jobs.txt").read_text().split()

    def say():
        return f"{cluster.jobs()}\n{logs_of(study)}"

    wait_for(lambda: len(working(study)) >= 3, say=say)
    subprocess.run(["scancel", f"{job}_0"], check=True)
    limit = ["scontrol", "update", f"jobid={job}_1"]
    subprocess.run([*limit, "timelimit=2"], check=True)  # SLURM counts in minutes
    wait_for(lambda: cluster.jobs()[f"{job}_1"][0] == "PENDING", say=say)
    subprocess.run([*limit, "timelimit=20"], check=True)

    number, lease = next(iter(wait_for(lambda: working(study), say=say).items()))
    os.kill(int(lease.holder.split("/")[1]), signal.SIGKILL)
    wait_for(lambda: study.trials()[number].state.is_finished(), say=say)

    running = wait_for(
        lambda: [w[1] for w in cluster.jobs().values() if w[0] == "RUNNING"], say=say
    )
    node = running[-1]
    cluster.tool("kill-node.sh", "--daemon-only", node)
    down = ["scontrol", "update", f"nodename={node}", "state=down", "reason=slurmd"]
    subprocess.run(down, check=True)
    cluster.tool("start-slurm.sh")
    resume = ["scontrol", "update", f"nodename={node}", "state=resume"]
    subprocess.run(resume, check=False, capture_output=True)

    # A trial whose workers died twice between two epochs has failed, and rightly so.
    hit = [t.number for t in study.trials() if t.state == TrialState.RUNNING]
    wait_for(lambda: all(study.trials()[n].state.is_finished() for n in hit), say=say)
    wait_for(lambda: working(study), say=say)
    urgent = ["sbatch", "--partition=gpua100", "--gres=gpu:a100:4", "--time=1", "--array=0-1"]
    subprocess.run([*urgent, "--output=/dev/null", "--wrap=sleep 5"], check=True)

    wait_for(is_finished(study), seconds=1000, say=say)
    wait_for(lambda: runs_of(study)[None].info.status == "FINISHED", say=say)
    assert_whole(study, 32)
    starts = {t.number: lease_of(t).starts for t in study.trials()}
    resumed = [n for n, times in starts.items() if times > 1]
    assert len(resumed) >= 3, starts
    assert_as_if_never_stopped(study, resumed[:6])


def test_time_limit_requeues_a_single_run(cluster, profile, place, atlas_file):
    """USR1 comes before the limit; the same run goes on in a second slot of the queue."""
    (place / "long.yaml").write_text(
        yaml.safe_dump({**TINY, "training": {**TINY["training"], "num_epochs": 40}})
    )
    said = command(
        "train", "long.yaml", "--data", atlas_file, "--device", "cpu", "--slurm", profile()
    )
    words = dict(line.split(maxsplit=1) for line in said.splitlines())
    job, folder = words["job"], place / words["folder"]
    log = folder / "training_log.csv"
    wait_for(log.exists, say=lambda: Path(words["log"]).read_text())
    # What SLURM does signal_seconds before the limit, without waiting for it.
    subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True)
    wait_for(lambda: "stopping after this step" in Path(words["log"]).read_text())
    results = folder / "test_results.json"
    wait_for(results.exists, say=lambda: Path(words["log"]).read_text())
    wait_for(lambda: cluster.jobs()[job][0] == "COMPLETED")
    said = Path(words["log"]).read_text()
    assert "go on with: deconv train --resume" in said
    epochs = [line.split(",")[0] for line in log.read_text().splitlines()[1:]]
    assert epochs == [str(n) for n in range(1, 41)]


def test_original_job_line_and_dry_run(cluster, place, write_study, atlas_file):
    file = write_study(where={"kind": "slurm", "jobs": 4, "at_once": 2, "processes": 2})
    said = command("tune", file, "--dry-run")
    for line in (
        "--partition=gpua100", "--gres=gpu:a100:1", "--cpus-per-task=12", "--mem=250G",
        "--time=24:00:00", "--array=0-3%2", "--requeue", "--open-mode=append",
        "--signal=B:USR1@120",
    ):  # fmt: skip
        assert f"#SBATCH {line}\n" in said
    assert "--processes 2" in said
    assert not (place / "studies").exists()
    assert not cluster.jobs()
    said = command("train", "demo", "--data", atlas_file, "--slurm", "--dry-run")
    assert "#SBATCH --gres=gpu:a100:1" in said
    assert not (place / "runs").exists()
    test = subprocess.run(  # the cluster takes the script
        ["sbatch", "--test-only"], input=said.replace("runs/", "/tmp/"), text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert test.returncode == 0, test.stderr


def test_batch_as_an_array_without_a_registry(
    cluster, profile, place, pure, engine, mixture_config
):
    """A task is killed and a task requeued; the nodes have no registry, only the cache."""
    register_bundle(write_small_bundle(place / "bundle", pure, mixture_config))
    drawn = draw_mixtures(engine, 12)
    rows = ["sample,path"]
    for i in range(12):
        write_h5ad(replace(drawn.take([i]), proportions=None), place / f"{i}.h5ad")
        rows.append(f"patient {i},{i}.h5ad")
    sheet = place / "sheet.csv"
    sheet.write_text("\n".join(rows) + "\n")
    command("predict", sheet, "-o", "predicted")
    asked = ("batch", sheet, "-o", "results", "--jobs", 3, "--slurm")
    gate = place / "gate"  # the jobs wait for it, so that the test is there before they are done
    asked += (
        profile(setup=["export OMP_NUM_THREADS=1", f"until [ -e {gate} ]; do sleep 0.1; done"]),
    )
    said = command(*asked)
    array, gathering = (line.split()[1].strip(":") for line in said.splitlines()[:2])
    assert f"job {array}: 3 tasks for 12 of 12 files" in said
    (place / "mlflow.db").rename(place / "away.db")
    logs = place / "results" / ".batch" / "logs"

    def say():
        return f"{cluster.jobs()}\n" + "\n".join(p.read_text() for p in logs.glob("*"))

    assert f"job(s) {array}, {gathering} of an earlier call still wait or run" in command(*asked)
    wait_for(lambda: cluster.jobs()[f"{array}_0"][0] == "RUNNING", say=say)
    subprocess.run(["scontrol", "requeue", f"{array}_0"], check=True)
    # It is to wait for two minutes, in case the node is what failed.
    now = ["scontrol", "update", f"jobid={array}_0", "starttime=now"]
    subprocess.run(now, check=False, capture_output=True)
    gate.touch()
    killed = wait_for(lambda: workers(place / "results"), say=say)
    os.kill(killed[0], signal.SIGKILL)
    wait_for(lambda: (place / "results" / "index.html").exists(), say=say)
    wait_for(lambda: cluster.jobs().get(gathering, ["COMPLETED"])[0] == "COMPLETED", say=say)
    for name in ("predictions.csv", "proportions.csv", "predictions.json"):
        ours, expected = ((place / f / name).read_bytes() for f in ("results", "predicted"))
        assert ours == expected, name
    assert "12 sample(s) analysed" in command(*asked)  # nothing is left to submit


def workers(folder):
    """Processes of this machine that work at a batch in a job of the array."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it ended
        if b"--share-of" in words and str(folder).encode() in words:
            found.append(int(path.parent.name))
    return found
