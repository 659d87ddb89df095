"""What is recorded reaches the store once, whatever is interrupted, lost, refused or repeated."""

import json
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
from light_run import Server, light_run, runs_in, snapshot
from mlflow.tracking import MlflowClient

from deconv.errors import InputError
from experiments.own_run import SPOOL_TAG
from experiments.reading import run_artifact
from experiments.sent import SENT, known_run_ids
from experiments.spool import SPOOL, read_spool
from experiments.store import TrackingError
from experiments.sync import BusyError, sync_folder

NOWHERE = "http://127.0.0.1:9"  # the port "discard": nobody listens
DECONV = str(Path(sys.executable).with_name("deconv"))


@pytest.fixture
def store_at(tmp_path, empty_store, store):
    """Use another empty store of that name; returns its URI."""

    def use(name):
        folder = tmp_path / "stores" / name
        folder.mkdir(parents=True)
        shutil.copy(empty_store, folder / "mlflow.db")
        uri = f"sqlite:///{folder}/mlflow.db"
        mlflow.set_tracking_uri(uri)
        location = (folder / "artifacts").as_uri()
        MlflowClient(uri).create_experiment("light", artifact_location=location)
        return uri

    yield use
    mlflow.set_tracking_uri(None)


def test_without_a_server_a_run_is_whole_and_synced_later_is_identical(store_at, tmp_path, capsys):
    folder = tmp_path / "runs" / "r"
    mlflow.set_tracking_uri(NOWHERE)
    tracked = light_run(folder)
    assert tracked.run_id is None
    n_lines = len(tracked.spool.entries)
    message = capsys.readouterr().err
    reason = "cannot open the tracking store; got [Errno 111] Connection refused"
    assert message.count(f"kept: {NOWHERE}: {reason}\n") == 1
    assert f"{n_lines} records kept; send them with: deconv sync {folder}" in message

    uri = store_at("later")
    synced = sync_folder(folder)
    assert (synced.n_sent, synced.n_left, synced.problems) == (n_lines, 0, [])
    later = snapshot(uri)

    online = tmp_path / "online" / "r"
    uri = store_at("online")
    light_run(online)
    at_once = snapshot(uri)
    assert strip(later) == strip(at_once)
    assert later["status"] == "FINISHED"
    assert later["metrics"]["train/m0"][-1][:2] == (3, 1 / 3)
    assert set(later["files"]) == {"config.yaml", "figures/miami.png"}
    ((name, status, tags, values, files),) = later["models"]
    assert (name, status, tags) == ("model", "READY", {"epoch": "3"})
    assert ("test/mae", 3, 0.01) in values
    assert ("train/m0", 3, 1 / 3) in values
    assert {"MLmodel", "artifacts/bundle"} <= set(files)


def strip(found):
    """Without what two runs never share: times and identity."""
    metrics = {k: [p[:2] for p in v] for k, v in found["metrics"].items()}
    return {**found, "metrics": metrics, "times": None, "spool": None}


@pytest.fixture
def finished(store_at, tmp_path):
    """The folder of a run that no store has, and all that a store should have of it."""
    folder = tmp_path / "runs" / "r"
    mlflow.set_tracking_uri(NOWHERE)
    light_run(folder, n_epochs=2, n_metrics=2)
    uri = store_at("expected")
    copy = shutil.copytree(folder, tmp_path / "expected")
    assert sync_folder(copy).problems == []
    return folder, snapshot(uri)


def test_client_killed_at_any_line_or_within_it_goes_on_whole(finished, store_at, tmp_path):
    folder, expected = finished
    lines = (folder / SPOOL).read_bytes().splitlines(keepends=True)
    for n in range(1, len(lines)):
        cut = b"".join(lines[:n])
        for torn in (b"", lines[n][: len(lines[n]) // 2]):
            copy = tmp_path / f"cut-{n}-{len(torn)}" / "r"
            shutil.copytree(folder, copy)
            (copy / SPOOL).write_bytes(cut + torn)
            uri = store_at(copy.parent.name)
            if n % 2:
                assert sync_folder(copy).n_sent == n  # sent as far as it went, then resumed
            tracked = light_run(copy, n_epochs=2, n_metrics=2)
            assert tracked.run_id == known_run_ids(copy)[0]
            assert strip(snapshot(uri)) == strip(expected)


def test_kill_between_a_call_and_its_note_repeats_nothing(finished, store_at):
    folder, expected = finished
    uri = store_at("again")
    n_lines = sync_folder(folder).n_sent
    note = json.loads((folder / SENT).read_text())
    (store_key,) = [key for key in note if "again" in key]
    for seq in range(n_lines):
        run_id = note[store_key]["run_id"] if seq else ""
        earlier = {**note, store_key: {"run_id": run_id, "seq": seq, "aside": {}}}
        (folder / SENT).write_text(json.dumps(earlier))
        synced = sync_folder(folder)
        assert (synced.n_sent, synced.n_left) == (n_lines - seq, 0)
    assert snapshot(uri) == expected
    assert sync_folder(folder).n_sent == 0


def test_run_created_twice_leaves_one(finished, store_at):
    folder, expected = finished
    uri = store_at("twice")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("light").experiment_id
    spool_id = next(iter(read_spool(folder / SPOOL))).data["spool_id"]
    for _ in range(2):  # a request whose answer was lost, and its repetition
        start = expected["times"][0]
        tags = {SPOOL_TAG: spool_id, "sparse": "true"}
        client.create_run(experiment, start_time=start, run_name="r", tags=tags)
    sync_folder(folder)
    assert len(runs_in(uri)) == 1
    found = snapshot(uri)
    for tags in (found["tags"], expected["tags"]):
        tags.pop("mlflow.user", None)
    assert found == expected


def test_syncs_at_once_and_killed_leave_each_point_once(finished, store_at):
    folder, expected = finished
    uri = store_at("at-once")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}

    def start():
        return subprocess.Popen(
            [DECONV, "sync", folder], env=environment, stdout=subprocess.PIPE, text=True
        )

    killed = start()
    deadline = time.monotonic() + 300
    while "at-once" not in sent(folder) and time.monotonic() < deadline:
        time.sleep(0.005)
    killed.kill()
    killed.communicate()
    both = [start(), start()]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert all("0 left" in text or "another process is sending" in text for text in outputs)
    assert any("0 left" in text for text in outputs)
    assert snapshot(uri) == expected


def sent(folder):
    return (folder / SENT).read_text() if (folder / SENT).exists() else ""


def test_command_sends_all_runs_of_the_directory(
    finished, store_at, tmp_path, deconv, monkeypatch
):
    folder, _ = finished
    store_at("command")
    monkeypatch.chdir(tmp_path)
    status, output, _ = deconv("sync")
    assert status == 0
    assert "records sent, 0 left, run" in output
    assert deconv("sync", folder)[1].startswith(f"{folder}: 0 records sent, 0 left")
    status, _, error = deconv("sync", tmp_path / "none")
    assert (status, error.count("\n")) == (2, 1)
    assert "no record of a run" in error


@pytest.mark.parametrize(
    "note", ["{", "[]", '{"sqlite:///a": []}', '{"sqlite:///a": {"run_id": "", "aside": {}}}']
)
def test_folder_with_a_fault_keeps_no_other_from_being_sent(
    finished, store_at, tmp_path, deconv, note
):
    folder, _ = finished
    uri = store_at("faults")
    bad = shutil.copytree(folder, folder.with_name("a"))
    (bad / SENT).write_text(note)
    status, output, error = deconv("sync", tmp_path / "none", "--directory", "x", bad, folder)
    assert status == 2
    assert f"error: {tmp_path / 'none'}: no record of a run" in error
    assert f"error: {bad / SENT}: not readable; got" in error
    assert error.count("\n") == 2
    assert output.startswith(f"{folder}: ")
    assert len(runs_in(uri)) == 1


def test_folder_without_runs_is_told(store_at, tmp_path, deconv):
    store_at("nothing")
    status, _, error = deconv("sync", "--directory", tmp_path / "none")
    assert (status, error) == (2, f"error: {tmp_path / 'none'}: no such folder of runs\n")
    (tmp_path / "empty").mkdir()
    expected = (0, f"no runs in {tmp_path / 'empty'}\n", "")
    assert deconv("sync", "--directory", tmp_path / "empty") == expected


def test_sender_at_work_keeps_a_second_one_out(finished, store_at):
    import fcntl

    folder, _ = finished
    store_at("busy")
    with (folder / "sending.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another process is sending this run"):
            sync_folder(folder)


def test_damaged_line_keeps_what_stands_before_it(finished, store_at):
    folder, _ = finished
    uri = store_at("damaged")
    lines = (folder / SPOOL).read_bytes().splitlines(keepends=True)
    lines[-2] = lines[-2].replace(b'"', b"'", 1)
    (folder / SPOOL).write_bytes(b"".join(lines))
    synced = sync_folder(folder)
    assert synced.n_sent == len(lines) - 2
    (problem,) = synced.problems
    assert f"line {len(lines) - 1}: the record is damaged" in problem
    assert len(runs_in(uri)) == 1


def test_record_shorter_than_what_was_sent_is_noticed(finished, store_at):
    folder, _ = finished
    store_at("shorter")
    n = sync_folder(folder).n_sent
    lines = (folder / SPOOL).read_bytes().splitlines(keepends=True)
    (folder / SPOOL).write_bytes(b"".join(lines[:-3]))
    (problem,) = sync_folder(folder).problems
    assert f"lines are missing at the end; got {n - 3}; expected {n}, which" in problem
    with pytest.raises(InputError, match="lines are missing at the end"):
        light_run(folder)


def test_run_lost_by_the_store_is_sent_anew_on_request(finished, store_at, deconv):
    folder, expected = finished
    uri = store_at("lost")
    sync_folder(folder)
    MlflowClient(uri).delete_run(runs_in(uri)[0].info.run_id)
    with (folder / SPOOL).open("rb") as file:
        assert file.readline()
    assert sync_folder(folder).problems == []  # nothing to send, nothing asked
    status, output, _ = deconv("sync", "--from-start", folder)
    assert status == 0
    assert " 0 left" in output
    assert snapshot(uri) == expected


def test_deleted_run_that_goes_on_says_how(finished, store_at, capsys):
    folder, _ = finished
    uri = store_at("deleted")
    sync_folder(folder)
    run_id = runs_in(uri)[0].info.run_id
    MlflowClient(uri).delete_run(run_id)
    light_run(folder, n_epochs=4, n_metrics=2)
    message = capsys.readouterr().err
    assert "the run was deleted in MLflow" in message
    assert f"mlflow runs restore --run-id {run_id}" in message


def test_changed_or_missing_file_is_put_aside(finished, store_at):
    folder, _ = finished
    uri = store_at("changed")
    (folder / "figures" / "miami.png").write_bytes(b"other")
    synced = sync_folder(folder)
    assert synced.n_left == 2  # the figure, and the model that has it
    assert all("the file changed after it was recorded" in p for p in synced.problems)
    (folder / "config.yaml").unlink()
    assert runs_in(uri)[0].info.status == "FINISHED"
    (folder / "figures" / "miami.png").write_bytes(b"\x89PNG")
    assert sync_folder(folder).n_left == 0


def test_read_only_artifact_store_holds_up_no_metrics(
    store_at, tmp_path, full_disk, capsys, deconv
):
    uri = store_at("read-only")
    client = MlflowClient(uri)
    client.rename_experiment(client.get_experiment_by_name("light").experiment_id, "other")
    client.create_experiment("light", artifact_location=full_disk.as_uri())
    subprocess.run(["mount", "-o", "remount,ro", full_disk], check=True)
    folder = tmp_path / "runs" / "r"
    tracked = light_run(folder)
    assert tracked.run_id is not None
    message = capsys.readouterr().err
    assert message.count("refused:") == 1
    assert "the artifact store did not take the file; got [Errno 30] Read-only" in message
    assert "3 records kept; send them with" in message
    assert len(client.get_metric_history(tracked.run_id, "train/m0")) == 3
    status, _, error = deconv("sync", folder)
    assert status == 1
    assert error.count("\n") == 1  # of three
    assert error.endswith(" (and 2 more like it)\n")
    subprocess.run(["mount", "-o", "remount,rw", full_disk], check=True)
    (full_disk / "ballast").unlink()
    assert sync_folder(folder).n_left == 0
    assert set(snapshot(uri)["files"]) == {"config.yaml", "figures/miami.png"}


def test_bucket_that_is_away_holds_up_no_metrics(store_at, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", NOWHERE)
    client = MlflowClient(store_at("bucket"))
    client.rename_experiment(client.get_experiment_by_name("light").experiment_id, "other")
    client.create_experiment("light", artifact_location="s3://nobucket/x")
    folder = tmp_path / "runs" / "r"
    tracked = light_run(folder, wait=30)
    assert len(client.get_metric_history(tracked.run_id, "train/m0")) == 3
    assert client.get_run(tracked.run_id).info.status == "FINISHED"
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert message.count("refused: ") == 1
    assert "EndpointConnectionError: Could not connect to the endpoint URL" in message
    assert "3 records kept; send them with" in message
    with pytest.raises(TrackingError, match="Could not connect to the endpoint URL"):
        run_artifact(client.get_run(tracked.run_id), "config.yaml", tmp_path)


@pytest.fixture
def cutting(tmp_path, empty_store):
    """A real server behind a proxy that, while told to, hangs up on who sends a file."""

    class Proxy(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection(
                ("127.0.0.1", int(server.uri.rpartition(":")[2]))
            ) as way:
                back = threading.Thread(target=self.pass_on, args=(way, self.request))
                back.start()
                self.pass_on(self.request, way)
                back.join()

        def pass_on(self, source, target):
            with suppress(OSError):
                while data := source.recv(65536):
                    if proxy.cuts and b"PUT /api/2.0/mlflow-artifacts/" in data:
                        break
                    target.sendall(data)
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    shutil.copy(empty_store, tmp_path / "mlflow.db")
    server = Server(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")
    with server, socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as proxy:
        proxy.daemon_threads, proxy.cuts = True, True
        proxy.uri = f"http://127.0.0.1:{proxy.server_address[1]}"
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
            server.kill()


def test_server_that_hangs_up_on_files_holds_up_no_metrics(cutting, tmp_path, capsys, deconv):
    mlflow.set_tracking_uri(cutting.uri)
    folder = tmp_path / "runs" / "r"
    tracked = light_run(folder, wait=60)
    assert capsys.readouterr().err.count("refused: ") == 1
    client = MlflowClient(cutting.uri)
    assert len(client.get_metric_history(tracked.run_id, "train/m0")) == 3
    assert client.get_run(tracked.run_id).info.status == "FINISHED"
    assert sync_folder(folder).n_left == 3
    cutting.cuts = False
    status, output, _ = deconv("sync", folder)
    assert (status, "0 left" in output) == (0, True)
    assert set(snapshot(cutting.uri)["files"]) == {"config.yaml", "figures/miami.png"}


def test_wrong_password_is_one_message(tmp_path, empty_store, monkeypatch, capsys, deconv):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    (tmp_path / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        "admin_password = a password of this test\n"
        f"database_uri = sqlite:///{tmp_path}/auth.db\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for this test",
    }
    backend = f"sqlite:///{tmp_path}/mlflow.db"
    server = Server(tmp_path, backend, "--app-name", "basic-auth", environment=environment)
    folder = tmp_path / "runs" / "r"
    with server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
        mlflow.set_tracking_uri(None)
        assert light_run(folder).run_id is None
        message = capsys.readouterr().err
        assert message.count("kept:") == 1
        assert "wrong password; got admin; expected MLFLOW_TRACKING_USERNAME and" in message
        for thread in threading.enumerate():  # it may be slow to hear the same answer
            if thread.name == "tracking":
                thread.join(60)
        status, output, error = deconv("sync", folder)
        assert (status, error.count("\n")) == (1, 1), output
        assert "MLFLOW_TRACKING_USERNAME" in error
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a password of this test")
        status, output, _ = deconv("sync", folder)
        assert (status, output.count("\n")) == (0, 1), output  # without MLflow's links
        assert "0 left" in output
        assert set(snapshot(server.uri)["files"]) == {"config.yaml", "figures/miami.png"}
