"""Studies on this machine: whole ones, and ones whose workers are killed or asked to leave."""

import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import asdict
from pathlib import Path
from urllib.request import urlopen

import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from ports import free_port
from sqlalchemy import create_engine, text
from studies import DECONV, runs_of

from deconv.checkpoint import load_checkpoint
from deconv.errors import DeconvError
from experiments.config import load_config
from experiments.holder import process_name
from experiments.launch import train_and_report
from experiments.run import BEST, LAST
from tuning.claims import Claims
from tuning.launch import find_study
from tuning.lease import lease_of
from tuning.local import supervise
from tuning.objective import DataCache, best_row, objective_values
from tuning.parent import begin_parent, conclude_parent
from tuning.plan import Planned
from tuning.trial_record import CURVE, trial_folder
from tuning.worker import work

FIGURES = {"history", "parallel", "timeline", "threshold_curves", "pruning"}


def start(file):
    """Start a study in a process of its own."""
    return subprocess.Popen(
        [DECONV, "tune", str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise TimeoutError


def at_epoch(number, epoch, folder="studies/study"):
    """Return what is true once a trial has done an epoch."""
    log = Path(folder) / "runs" / f"study-{number:04d}" / "training_log.csv"
    return lambda: log.exists() and log.read_text().count("\n") > epoch


def holder_of(study, number):
    return int(lease_of(study.trials()[number]).holder.split("/")[1])


def straight(study, number):
    """Train a trial's run without a study and without a stop."""
    overrides = [
        f"{key}={value!r}"
        for key, value in trial_folder(study, number).config().flat().items()
        if key in ("loss.presence_weight", "loss.sparsity_weight")
    ]
    torch.set_num_threads(1)
    return train_and_report(
        "tiny.yaml", data=study.config.data, overrides=[*study.config.set, *overrides],
        device="cpu",
    ).folder  # fmt: skip


def assert_same_run(left, right):
    for name in (BEST, LAST):
        one, other = (load_checkpoint(f / name).network.state_dict() for f in (left, right))
        assert all(torch.equal(one[key], other[key]) for key in one)
    logs = [(f / "training_log.csv").read_text() for f in (left, right)]
    assert logs[0] == logs[1]


def test_study_of_one_worker_is_whole_in_mlflow(begin):
    study = begin(budget={"trials": 4})
    begin_parent(study)
    assert work(study.folder, device="cpu", threads=1) == 0
    conclude_parent(study)

    trials = study.trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 4
    runs = runs_of(study)
    assert set(runs) == {None, 0, 1, 2, 3}
    parent = runs.pop(None)
    assert parent.info.status == "FINISHED"
    assert parent.data.params["sampler.kind"] == "tpe"
    assert "0.1" in parent.data.params["space.loss.presence_weight"]
    best = min(trials, key=lambda t: t.values[0])
    assert parent.data.metrics["study/best"] == pytest.approx(best.values[0])
    assert parent.data.tags["best.trial"] == str(best.number)
    client = MlflowClient()
    files = {f.path for f in client.list_artifacts(parent.info.run_id)}
    assert {"best.json", "trials.csv", "importances.json", "settings.yaml"} <= files
    pages = {f.path for f in client.list_artifacts(parent.info.run_id, "figures")}
    assert pages == {f"figures/{name}.html" for name in FIGURES}
    page = (study.folder / "figures" / "history.html").read_text()
    assert "cdn" not in page.split("<script")[0]
    assert 'src="http' not in page

    for trial in trials:
        run = runs[trial.number]
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["trial.state"] == "complete"
        assert run.data.params["trial.threshold"] == f"{trial.params['threshold']:g}"
        given = float(run.data.params["loss.presence_weight"])
        assert given == trial.params["presence_weight"]
        assert run.data.metrics["trial/objective"] == pytest.approx(trial.values[0])
        assert CURVE in {f.path for f in client.list_artifacts(run.info.run_id)}
        assert run.info.run_id == trial.user_attrs["run_id"]


def test_threshold_is_the_best_of_one_models_curve(begin):
    study = begin(budget={"trials": 1}, space={"sparsity_weight": None, "threshold": (0.3, 0.7)})
    work(study.folder, device="cpu", threads=1)
    (trial,) = study.trials()
    folder = trial_folder(study, 0).path
    curve = pd.read_csv(folder / CURVE)
    assert curve["threshold"].tolist() == pytest.approx([0.3 + 0.01 * i for i in range(41)])
    scores = 10 * curve["mae"] + 1 - curve["presence_f1"]
    assert trial.values[0] == pytest.approx(scores.min())
    assert trial.params["threshold"] == best_row(curve, study.config.objective)["threshold"]
    # At the network's own threshold the curve is what was measured while training.
    log = pd.read_csv(folder / "training_log.csv").set_index("epoch")
    best = load_checkpoint(folder / BEST).epoch
    at_half = curve.iloc[(curve["threshold"] - 0.5).abs().idxmin()]
    assert at_half["mae"] == pytest.approx(log.loc[best, "val/mae"])
    assert at_half["presence_f1"] == pytest.approx(log.loc[best, "val/presence_f1"])


def test_pruned_and_failed_trials_say_so(begin, monkeypatch):
    study = begin(
        budget={"trials": 4},
        pruner={"kind": "halving", "min_epochs": 1, "reduction": 2},
        sampler={"kind": "random", "seed": 5},
    )
    prepare = DataCache.prepare

    def failing(self, config, device):
        if config.output.study and "study-0002" not in str(config):
            failing.n += 1
            if failing.n == 3:
                raise RuntimeError("CUDA out of memory")
        return prepare(self, config, device)

    failing.n = 0
    monkeypatch.setattr(DataCache, "prepare", failing)
    begin_parent(study)
    work(study.folder, device="cpu", threads=1)
    conclude_parent(study)
    states = [t.state.name for t in study.trials()]
    assert states[2] == "FAIL"
    assert "PRUNED" in states
    assert study.trials()[2].user_attrs["reason"] == "RuntimeError: CUDA out of memory"
    runs = runs_of(study)
    pruned = runs[states.index("PRUNED")]
    assert pruned.info.status == "KILLED"
    assert pruned.data.tags["trial.state"] == "pruned"
    assert pruned.data.tags["trial.reason"].startswith("pruned after epoch")
    assert runs[None].data.metrics["study/failed"] == 1


def test_two_objectives_under_the_success_criteria(begin):
    study = begin(objective={"kind": "two"}, budget={"trials": 3})
    begin_parent(study)
    work(study.folder, device="cpu", threads=1)
    conclude_parent(study)
    for trial in study.trials():
        curve = pd.read_csv(trial_folder(study, trial.number).path / CURVE)
        best = best_row(curve, study.config.objective)
        assert trial.values == pytest.approx(objective_values(best, study.config.objective))
        missed = trial.constraints["val/spurious_mass"]
        assert missed == pytest.approx(trial.values[1] - 0.05)
    assert (study.folder / "figures" / "pareto.html").exists()
    assert json.loads((study.folder / "best.json").read_text())


def test_planned_trials_run_as_given(begin):
    plan = [
        Planned("default", 0, ("loss.presence_weight=1.0",)),
        Planned("default", 1, ("loss.presence_weight=1.0", "random_seed=1")),
    ]
    study = begin(plan, budget={"trials": 2})
    work(study.folder, device="cpu", threads=1)
    assert [t.state.name for t in study.trials()] == ["COMPLETE"] * 2
    assert [trial_folder(study, n).config().random_seed for n in (0, 1)] == [0, 1]


def test_study_goes_on_only_as_it_began(begin):
    from deconv.errors import ConfigError

    study = begin()
    assert begin(budget={"trials": 5}).budget.trials == 5
    assert find_study("study").id == study.id
    with pytest.raises(ConfigError, match=r"sampler differs from the study's"):
        begin(sampler={"kind": "random"})
    with pytest.raises(ConfigError, match="no such study"):
        find_study("another")


def test_stopped_study_goes_on_and_a_trial_that_kills_its_workers_fails(begin):
    study = begin(
        budget={"trials": 2}, lease_seconds=4, set=["training.num_epochs=40"],
        where={"kind": "local", "processes": 1, "threads": 1, "device": "cpu"},
    )  # fmt: skip

    def stop():
        wait_for(at_epoch(0, 2))
        study.set_stopped(True)

    thread = threading.Thread(target=stop)
    thread.start()
    assert work(study.folder, device="cpu", threads=1) == 75
    thread.join()
    (trial,) = study.trials()
    assert trial.state == TrialState.RUNNING
    assert lease_of(trial).holder is None
    assert runs_of(study)[0].info.status == "KILLED"

    study.set_stopped(False)
    gone = process_name().rpartition("/")[0].rpartition("/")[0] + "/99999999/1"
    for deaths in (0, 1):
        assert Claims(study, holder=f"{gone}{deaths}").next().number == 0
        assert lease_of(study.trials()[0]).deaths == deaths
    assert work(study.folder, device="cpu", threads=1) == 0
    assert [t.state.name for t in study.trials()] == ["FAIL", "COMPLETE"]
    failed, complete = (runs_of(study)[n] for n in (0, 1))
    assert failed.info.status == "FAILED"
    assert failed.data.tags["trial.state"] == "failed"
    assert failed.data.tags["trial.reason"].startswith("its worker died 2 times")
    assert complete.info.status == "FINISHED"


def test_worker_survives_lost_connections_and_a_lost_lease(begin, database):
    study = begin(storage=database, budget={"trials": 1}, set=["training.num_epochs=40"])
    engine = create_engine(database.replace("postgresql:", "postgresql+psycopg2:"))
    others = "datname = current_database() AND pid <> pg_backend_pid()"

    def disturb():
        for epoch in (2, 10):
            wait_for(at_epoch(0, epoch))
            with engine.connect() as connection:  # as when the database restarts
                connection.execute(
                    text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
                )
        # As by a worker that took this one for dead.
        (trial,) = study.trials()
        lease = {**asdict(lease_of(trial)), "starts": 9, "holder": None}
        study.storage.set_trial_user_attr(trial._trial_id, "lease", lease)

    thread = threading.Thread(target=disturb)
    thread.start()
    assert work(study.folder, device="cpu", threads=1) == 0
    thread.join()
    engine.dispose()
    (trial,) = study.trials()
    assert trial.state == TrialState.COMPLETE
    assert lease_of(trial).starts == 10  # it came back to it


def test_worker_that_cannot_work_says_why(begin, place):
    study = begin()
    (study.folder / "base.yaml").write_text("model: {no_such: 1}")
    with pytest.raises(DeconvError, match=r"a worker gave up.*unknown key model.no_such"):
        supervise(study.folder, processes=1, threads=1, device="cpu")


def test_dashboard_serves_the_study(begin):
    begin()
    port = free_port()
    process = subprocess.Popen(
        [DECONV, "tune", "dashboard", "study", "--port", str(port)], stderr=subprocess.PIPE
    )

    def get():
        try:
            with urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            assert process.poll() is None
            return ""

    try:
        assert '"study_name": "study"' in wait_for(get)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["journal", "postgres"])
def test_killed_and_asked_workers_leave_nothing_undone(write_study, request, kind):
    storage = "journal" if kind == "journal" else request.getfixturevalue("database")
    file = write_study(
        storage=storage, budget={"trials": 3}, lease_seconds=30,
        set=["training.num_epochs=15", "training.mixtures_per_epoch=64"],
    )  # fmt: skip
    process = start(file)
    try:
        wait_for(at_epoch(0, 2))
        study = find_study("study")
        os.kill(holder_of(study, 0), signal.SIGKILL)  # its supervisor starts another
        wait_for(lambda: lease_of(study.trials()[0]).starts == 2)
        wait_for(at_epoch(1, 2))
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 75, said
    assert "go on with: deconv tune" in said
    assert "Traceback" not in said
    left = [t for t in study.trials() if t.state == TrialState.RUNNING]
    assert left
    assert all(lease_of(t).holder is None for t in left)

    again = subprocess.run(
        [DECONV, "tune", "study"], capture_output=True, text=True, timeout=300, check=False
    )
    assert again.returncode == 0, again.stderr
    trials = study.trials()
    assert [t.number for t in trials] == [0, 1, 2]
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert lease_of(trials[0]).deaths == 1
    runs = runs_of(study)
    assert set(runs) == {None, 0, 1, 2}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    interrupted = max(left, key=lambda t: t.number).number
    for number in {0, interrupted}:
        assert_same_run(straight(study, number), trial_folder(study, number).path)
    load_config(study.folder / "base.yaml")
