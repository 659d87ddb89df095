"""PostgreSQL as tracking store, without a server in front of it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import mlflow
import pytest
from light_run import EXPERIMENT, light_run, snapshot
from mlflow.tracking import MlflowClient

from experiments.replay import Replay
from experiments.run_datasets import dataset_data
from experiments.spool import Entry

N_RUNS = 6  # MLflow keeps 15 connections in a process, and a call may take two
DRIVER = "postgresql+psycopg2://"


@pytest.fixture
def use(monkeypatch):
    def use(uri):
        mlflow.set_tracking_uri(None)  # first: it takes the variable away
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)  # of another test's store

    yield use
    monkeypatch.undo()
    mlflow.set_tracking_uri(None)


def test_wrong_password_and_lost_database_are_one_message_and_lose_nothing(
    postgres, use, tmp_path, capsys, caplog, deconv
):
    database = postgres.create()
    address = f"127.0.0.1:{postgres.port}/{database}"
    folder = tmp_path / "runs" / "r"
    for away, reason in (
        (f"postgresql://postgres@{address}", "begins with postgresql+psycopg2:"),
        (
            f"{DRIVER}postgres:wrong@{address}",
            'password authentication failed for user "postgres"',
        ),
        (f"{DRIVER}postgres:secret@127.0.0.1:9/{database}", "Connection refused"),
    ):
        use(away)
        assert light_run(folder).run_id is None
        told = capsys.readouterr().err
        assert told.count("kept: ") == 1
        assert told.count(reason) == 1, told
        assert "wrong@" not in told
        for arguments, status in ((["sync", folder], 1), (["leaderboard"], 2)):
            found, _, error = deconv(*arguments)
            assert (found, error.count("\n")) == (status, 1)
            assert "cannot open the tracking store" in error
            assert reason in error
            # Nor has MLflow asked ten times, which takes 100 s, and told each.
            assert "will be retried" not in told + error + caplog.text

    use(f"{DRIVER}postgres:{quote(postgres.password, safe='')}@{address}")
    status, output, _ = deconv("sync", folder)
    assert status == 0
    assert ", 0 left" in output
    found = snapshot(mlflow.get_tracking_uri())
    assert [point[:2] for point in found["metrics"]["train/m0"]] == [
        (1, 1.0),
        (2, 0.5),
        (3, 1 / 3),
    ]
    assert found["status"] == "FINISHED"


def test_runs_that_tell_of_the_same_new_data_at_once_are_not_refused(postgres):
    password = quote(postgres.password, safe="")
    address = f"127.0.0.1:{postgres.port}/{postgres.create()}"
    client = MlflowClient(f"{DRIVER}postgres:{password}@{address}")
    experiment = client.create_experiment(EXPERIMENT)
    runs = [client.create_run(experiment).info.run_id for _ in range(N_RUNS)]
    names = [f"data-{n}" for n in range(5)]
    for name in names:
        data = dataset_data(name, "0" * 16, source="a.h5ad", profile={}, context="train")
        entry = Entry(3, 1, "datasets", {"datasets": [data]})
        gate = threading.Barrier(N_RUNS)

        def tell(run, gate=gate, entry=entry):
            replay = Replay(client, Path(), [entry], run)
            gate.wait()
            replay.tell([entry])

        with ThreadPoolExecutor(N_RUNS) as pool:
            list(pool.map(tell, runs))
    for run in runs:
        inputs = client.get_run(run).inputs.dataset_inputs
        assert sorted(entry.dataset.name for entry in inputs) == names
