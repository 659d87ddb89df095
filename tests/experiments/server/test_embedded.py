"""The embedded profile: the SQLite store of a folder, served, backed up, restored."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests
from mlflow.entities import LoggedModelStatus
from mlflow.tracking import MlflowClient
from ports import free_port

from experiments.server.process import MARK, Started, end, locked
from experiments.server.settings import load_settings

DECONV = Path(sys.executable).with_name("deconv")


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def bystander():
    """A process that is not the server's."""
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait(timeout=120)


def test_foreground_serves_this_folders_runs_until_it_is_told_to_end(store, client, port):
    run = client.create_run("0").info.run_id
    process = subprocess.Popen(
        [DECONV, "server", "start", "--set", f"port={port}"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        line = next(line for line in process.stdout if "answers" in line)
        assert line.startswith(f"http://127.0.0.1:{port} answers (process ")
        remote = MlflowClient(f"http://127.0.0.1:{port}")
        remote.log_metric(run, "mae", 0.5)
        new = remote.create_run(remote.create_experiment("new")).info.run_id
        remote.log_text(new, "hello", "file.txt")
    finally:
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(timeout=60) == 0
        process.stdout.close()
    assert client.get_run(run).data.metrics == {"mae": 0.5}
    assert len(list((store / "mlartifacts").rglob("file.txt"))) == 1
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/health", timeout=5)


def test_detached_server_is_found_and_ended_even_without_its_main_process(store, deconv, port):
    options = ("--set", f"port={port}", "--set", "stop_timeout=120")
    status, output, _ = deconv("server", "status", *options)
    assert status == 3
    assert output.startswith("server             not running\n")
    status, output, error = deconv("server", "start", "--detach", *options)
    assert status == 0, error
    assert "log: .deconv-server/server.log; end it with: deconv server stop" in output
    try:
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=120).text == "OK"
        status, output, _ = deconv("server", "status", *options)
        assert status == 0
        os.kill(int(re.search(r"process (\d+)", output)[1]), signal.SIGKILL)
    finally:
        status, output, _ = deconv("server", "stop", *options)
    assert (status, output) == (0, "stopped\n")
    status, _, error = deconv("server", "stop", *options)
    assert (status, error) == (2, "error: .deconv-server: no server runs\n")
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/health", timeout=5)


def test_server_that_ends_at_once_shows_the_end_of_its_log(store, deconv, port, monkeypatch):
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "Puddle")
    status, _, error = deconv("server", "start", "--detach", "--set", f"port={port}")
    assert status == 2
    assert "the server ended before it answered" in error
    assert "Invalid poolclass parameter: Puddle" in error
    assert deconv("server", "stop")[0] == 2  # nothing is left


def test_process_that_has_the_number_of_a_dead_server_is_left_alone(store, deconv, bystander):
    Path(".deconv-server").mkdir()
    record = {
        "pid": bystander.pid,
        "mark": "gone",
        "address": "http://127.0.0.1:1",
        "version": "1",
    }
    Path(".deconv-server/server.json").write_text(json.dumps(record))
    assert deconv("server", "status")[0] == 3
    status, _, error = deconv("server", "stop")
    assert status == 2
    assert "no server runs" in error
    assert bystander.poll() is None


def test_server_that_does_not_end_when_asked_is_killed(bystander):
    stubborn = subprocess.Popen(
        ["bash", "-c", "trap '' TERM; echo ready; while true; do sleep 0.1; done"],
        env={**os.environ, MARK: "stubborn"}, stdout=subprocess.PIPE,
    )  # fmt: skip
    stubborn.stdout.readline()
    waiting = threading.Thread(target=stubborn.wait)  # so that it leaves no zombie
    waiting.start()
    started = Started(stubborn.pid, "stubborn", "http://127.0.0.1:1", "1")
    assert end(started, 0.5) == "killed after 0.5 s"
    waiting.join(timeout=120)
    stubborn.stdout.close()
    assert stubborn.returncode == -signal.SIGKILL
    assert bystander.poll() is None


def test_one_command_at_a_time(store, deconv):
    with locked(load_settings("embedded")):
        for command in (("start",), ("stop",), ("gc",), ("backup", "b")):
            status, _, error = deconv("server", *command)
            assert status == 2
            assert "another server command is at work" in error


def test_backup_brings_back_runs_and_files_made_without_a_server(store, client, deconv):
    run = client.create_run(client.create_experiment("local")).info.run_id
    client.log_metric(run, "mae", 0.25)
    client.log_text(run, "weights", "model/file.txt")
    status, output, error = deconv("server", "backup", "safe")
    assert status == 0, error
    assert output.startswith("safe: 1 runs, 1 artifacts, ")
    assert deconv("server", "backup", "safe")[0] == 2  # is there
    status, _, error = deconv("server", "restore", "safe")
    assert status == 2
    assert "the database is not empty; got 1 runs" in error

    Path("mlflow.db").unlink()
    status, _, error = deconv("server", "restore", "safe")
    assert status == 2
    assert "there are artifacts already" in error
    shutil.rmtree("mlruns")
    status, output, error = deconv("server", "restore", "safe")
    assert status == 0, error
    assert output == "1 runs and 1 artifacts are in place\n"
    found = MlflowClient(f"sqlite:///{store}/mlflow.db")
    assert found.get_run(run).data.metrics == {"mae": 0.25}
    assert Path(found.download_artifacts(run, "model/file.txt")).read_text() == "weights"


def test_backup_is_of_one_moment_while_others_write(store, client, deconv):
    # Not the default one: its artifacts lie where all copies of the empty store have theirs.
    experiment = client.create_experiment("busy")
    run = client.create_run(experiment).info.run_id
    begun, stop = threading.Event(), threading.Event()

    def write():
        step = 0
        while not stop.is_set():
            client.log_metric(run, "m", 1.0, step=step)
            model = client.create_logged_model(experiment, name="model", source_run_id=run)
            Path(model.artifact_location).mkdir(parents=True)
            Path(model.artifact_location, "MLmodel").write_text("x" * 100_000)
            client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
            step += 1
            if step == 3:
                begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(60)
        for number in range(3):
            status, output, error = deconv("server", "backup", f"safe{number}")
            assert (status, error) == (0, ""), output
    finally:
        stop.set()
        writer.join()
    for number in range(3):
        copy = MlflowClient(f"sqlite:///{store}/safe{number}/database")
        steps = [point.step for point in copy.get_metric_history(run, "m")]
        assert steps == list(range(len(steps)))
        files = {path.parts[-3] for path in Path(f"safe{number}").rglob("MLmodel")}
        models = copy.search_logged_models([experiment], max_results=1000)
        models = [model for model in models if model.status == LoggedModelStatus.READY]
        assert {model.model_id for model in models} <= files
        assert len(models) > 2


def test_backup_names_what_is_not_in_it(store, client, deconv):
    client.create_experiment("elsewhere", artifact_location="gs://bucket/folder")
    run = client.create_run("0").info.run_id
    model = client.create_logged_model("0", name="model", source_run_id=run)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    status, _, error = deconv("server", "backup", "safe")
    assert status == 0
    assert "not in it: gs://bucket/folder: artifacts of another store" in error
    assert f"not in it: {model.artifact_location}: the model has lost its files" in error


def test_backup_that_cannot_be_written_or_has_nothing_in_it_is_refused(store, client, deconv):
    status, _, error = deconv("server", "backup", "mlflow.db/safe")
    assert status == 2
    assert "mlflow.db/safe: cannot write the backup; got [Errno 17] File exists" in error
    sqlite3.connect("empty.db").executescript("CREATE TABLE x (y)").connection.close()
    status, _, error = deconv("server", "backup", "--set", "database=sqlite:///empty.db", "safe")
    assert status == 2
    assert "there is nothing to back up" in error
    status, _, error = deconv("server", "gc", "--set", "database=sqlite:///empty.db")
    assert status == 2
    assert "the database refuses; got no such table: model_versions" in error
    assert not Path("safe").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "manifest.json").unlink(), "manifest.json: not a backup"),
        (lambda f: (f / "manifest.json").write_text("{"), "the manifest is damaged"),
        (lambda f: (f / "database").unlink(), "a file of the backup is missing"),
        (lambda f: (f / "database").write_text("x"), "the file is not what was backed up"),
        (lambda f: (f / "more").write_text("x"), "a file that the backup did not have; got more"),
    ],
    ids=["no manifest", "half a manifest", "no database", "other database", "one more"],
)
def test_damaged_backup_is_refused_and_nothing_changes(store, client, deconv, damage, message):
    run = client.create_run("0").info.run_id
    assert deconv("server", "backup", "safe")[0] == 0
    damage(Path("safe"))
    status, _, error = deconv("server", "restore", "--replace", "safe")
    assert status == 2
    assert message in error
    assert client.get_run(run).info.run_id == run


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prt=1"], "prt: Extra inputs are not permitted"),
        (["port"], "not an override; got port; expected key=value"),
        (["port=99999"], "port: Input should be less than or equal to 65535"),
        (["database=postgresql://u:secret@h/d"], "belongs into DECONV_DATABASE_PASSWORD"),
        (["database=mysql://u@h/d"], "neither sqlite:///FILE nor postgresql://"),
        (["database=nonsense"], "database is no URL"),
        (["artifacts=gs://bucket"], "neither a folder nor s3://BUCKET"),
        (["allowed_hosts=['*']"], "any web site could use the server"),
        (["auth=true"], "auth needs a PostgreSQL database"),
        (["host=0.0.0.0"], "open to the network and auth is false"),
        (["pool_size=5", "max_overflow=10"], "is 15: a worker serves 40 requests at once"),
    ],
)
def test_settings_that_lose_data_or_secrets_are_refused(deconv, overrides, message):
    options = [part for override in overrides for part in ("--set", override)]
    status, _, error = deconv("server", "start", *options)
    assert status == 2
    assert message in error
    assert "secret@" not in error


def test_profile_and_file_that_are_not_there_are_named(deconv, tmp_path):
    status, _, error = deconv("server", "start", "--profile", "lab")
    assert status == 2
    assert "no such key; got 'lab'; expected embedded, production" in error
    status, _, error = deconv("server", "start", "--config", tmp_path / "no.yaml")
    assert status == 2
    assert "no.yaml: cannot read the settings; got No such file" in error
    (tmp_path / "list.yaml").write_text("- a\n")
    status, _, error = deconv("server", "start", "--config", tmp_path / "list.yaml")
    assert status == 2
    assert "not a file of settings" in error
