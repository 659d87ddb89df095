"""What people see of a study and do to it, and where its workers compute."""

import subprocess
import time

import pytest
from optuna.trial import TrialState
from rich.console import Console
from studies import DECONV

from experiments.config import load_config
from experiments.rundir import RunFolder
from tuning.claims import Claims
from tuning.launch import find_study
from tuning.lease import lease_of
from tuning.local import supervise, visible_gpus
from tuning.space import suggest
from tuning.status import status_table, study_status


def finish_one(claims, value, *, seconds=60.0, state=TrialState.COMPLETE, **attrs):
    claim = claims.next()
    suggest(claims.trial(claim), claims.study.config.space)
    claim.began -= seconds
    claims.finish(claim, state, [value] if state == TrialState.COMPLETE else None, attrs)
    return claim.number


def shown(study):
    console = Console(width=200, record=True, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        console.print(status_table(study_status(study)))
    return capture.get()


def test_status_tells_best_cost_time_left_and_failures(begin):
    study = begin(budget={"trials": 6})
    study.set_gpus_per_worker(0.5)
    claims = Claims(study)
    finish_one(claims, 2.0)
    finish_one(claims, 1.0, seconds=180.0)
    finish_one(claims, 0, state=TrialState.FAIL, reason="RuntimeError: CUDA out of memory")
    Claims(study, holder="node7:1/2/3").next()

    status = study_status(study)
    assert status.best == [1]
    assert status.gpu_hours == pytest.approx(0.5 * 300 / 3600, rel=0.01)
    # Three of six are left, of 100 s on average, and one worker is at work.
    assert status.eta.total_seconds() == pytest.approx(300, abs=2)
    said = shown(study)
    assert "4 of 6 trials started; 2 complete, 1 fail, 1 working" in said
    assert "0.04 GPU hours; about 0:05:00 left" in said
    rows = {line.split()[0]: line for line in said.splitlines()[3:]}
    assert rows["2"].split()[1] == "fail"
    assert rows["2"].rstrip().endswith("RuntimeError: CUDA out of memory")
    assert rows["3"].rstrip().endswith("on node7")
    assert rows["1"].split()[1] == "best"


def test_watch_ends_with_the_study(begin):
    study = begin(budget={"trials": 2})
    claims = Claims(study)
    finish_one(claims, 2.0)
    watching = subprocess.Popen([DECONV, "tune", "watch", "study"], stdout=subprocess.PIPE)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            watching.wait(timeout=8)
        finish_one(claims, 1.0)
        said, _ = watching.communicate(timeout=120)
    finally:
        watching.kill()
        watching.wait()
    assert watching.returncode == 0
    assert "2 of 2 trials started; 2 complete" in said.decode()


def test_study_is_stopped_extended_and_goes_on(begin, deconv):
    study = begin(
        budget={"trials": 1}, set=["training.num_epochs=1"],
        where={"kind": "local", "processes": 1, "threads": 1, "device": "cpu"},
    )  # fmt: skip
    claim = Claims(study, holder="elsewhere:1/1/1").next()
    status, said, _ = deconv("tune", "stop", "study")
    assert (status, said) == (0, "stopped; 1 trials are left at their checkpoints\n")
    assert "stopped" in deconv("tune", "status", "study")[1]
    Claims(study, holder="elsewhere:1/1/1").release(claim)
    status, said, _ = deconv("tune", "extend", "study", "--trials", "2")
    assert (status, said) == (0, "2 trials; start workers with: deconv tune study\n")
    for arguments, message in (((), "say what"), (("--hours", "-1"), "hours: Input should be")):
        status, _, error = deconv("tune", "extend", "study", *arguments)
        assert status == 2
        assert message in error
    status, said, error = deconv("tune", "study")
    assert status == 0, error
    assert [t.state for t in study.trials()] == [TrialState.COMPLETE] * 2
    assert [lease_of(t).starts for t in study.trials()] == [2, 1]
    assert find_study("study").budget.trials == 2


@pytest.mark.parametrize("kind", ["gp", "tpe"])
def test_proposals_follow_the_results_whoever_asks(begin, kind):
    """Weights near 1 are good: past its random start, a sampler comes nearer to them."""
    n_startup, found = 5, []
    for name, n_workers in (("one", 1), ("many", 3)):
        study = begin(
            name=name, sampler={"kind": kind, "seed": 3, "startup_trials": n_startup},
            budget={"trials": 14}, space={"presence_weight": None, "threshold": None},
        )  # fmt: skip
        workers = [Claims(study, holder=f"elsewhere:1/{n}/1") for n in range(n_workers)]
        distances = []
        while (claim := workers[len(distances) % n_workers].next()) != "done":
            claims = workers[len(distances) % n_workers]
            trial = claims.trial(claim)
            suggest(trial, study.config.space)
            distances.append(abs(trial.params["presence_weight"] - 1))
            claims.finish(claim, TrialState.COMPLETE, [distances[-1]], {})
        found.append(distances)
    one, many = found
    assert one == many
    assert min(one[n_startup:]) < min(one[:n_startup])


@pytest.mark.parametrize(
    ("device", "variable", "expected"),
    [("auto", "2,3", ["2", "3"]), ("cuda", "", []), ("cpu", "0,1", []), ("auto", None, None)],
)
def test_gpus_are_those_of_the_job(monkeypatch, device, variable, expected):
    if variable is None:
        import torch

        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        expected = [str(i) for i in range(torch.cuda.device_count())]
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus(device) == expected


def test_workers_share_the_gpus_of_a_job_in_turn(begin, monkeypatch):
    """No GPU is needed to be given one: a worker that finds none of it computes on the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    study = begin(budget={"trials": 1}, set=["training.num_epochs=1"])
    assert supervise(study.folder, processes=4, threads=1, device="auto") == 0
    logs = sorted((study.folder / "logs").glob("worker-*.log"))
    assert [log.read_text().split("GPU ")[1].split()[0] for log in logs] == ["5", "7", "5", "7"]


def test_watch_outlives_a_database_that_restarts(begin, monkeypatch):
    from optuna.exceptions import StorageInternalError

    from tuning.watching import watch

    study = begin(budget={"trials": 1})
    finish_one(Claims(study), 1.0)
    trials, away = study.trials, iter([True, True])

    def sometimes():
        if next(away, False):
            raise StorageInternalError("away")
        return trials()

    monkeypatch.setattr(study, "trials", sometimes)
    begun = time.monotonic()
    watch(study, Console(quiet=True))
    assert time.monotonic() - begun >= 2  # it asked again


def test_job_that_goes_on_with_a_run_reads_its_data_where_they_lie_now(
    deconv, atlas_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder = RunFolder.create(load_config("demo", data="gone.h5ad"), "demo").path.absolute()
    asked = ("train", "--resume", folder, "--slurm", "gpua100", "--dry-run")
    line = f"train --resume {folder} --device auto"
    assert f"{line} &" in deconv(*asked)[1]
    assert f"{line} --data {atlas_file} &" in deconv(*asked, "--data", atlas_file)[1]
