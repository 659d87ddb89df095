"""The production profile: PostgreSQL, S3 through the server, passwords; 64 writers at once."""

import json
import os
import re
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow.entities import Metric

from experiments.fetch import fetch_model

N_WRITERS, N_BATCHES, N_METRICS = 64, 3, 20


def test_64_writers_lose_nothing_without_a_retry(production, production_client, postgres, secrets):
    secrets.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    experiment = production_client.create_experiment("writers")
    runs = [production_client.create_run(experiment).info.run_id for _ in range(N_WRITERS)]
    gate = threading.Barrier(N_WRITERS)

    def write(run):
        gate.wait()
        for step in range(N_BATCHES):
            points = [Metric(f"m{k}", k + step / 8, 1000 + step, step) for k in range(N_METRICS)]
            production_client.log_batch(run, points)

    with ThreadPoolExecutor(N_WRITERS) as pool:
        list(pool.map(write, runs))
    rows = postgres.query(
        production.database,
        "SELECT run_uuid, key, step, value FROM metrics JOIN runs USING (run_uuid) "
        "WHERE experiment_id = %s",
        int(experiment),
    )
    expected = {
        (run, f"m{k}", step, k + step / 8)
        for run in runs for step in range(N_BATCHES) for k in range(N_METRICS)
    }  # fmt: skip
    assert len(rows) == len(expected)
    assert set(rows) == expected


def test_artifacts_reach_s3_through_the_server_without_keys(
    production, production_client, s3, secrets
):
    secrets.delenv("AWS_ACCESS_KEY_ID")
    secrets.delenv("AWS_SECRET_ACCESS_KEY")
    run = production_client.create_run("0").info.run_id
    production_client.log_text(run, "hello", "folder/file.txt")
    assert s3.keys(f"{production.database}/0/{run}/") == [
        f"{production.database}/0/{run}/artifacts/folder/file.txt"
    ]
    assert mlflow.artifacts.load_text(f"runs:/{run}/folder/file.txt") == "hello"


def test_training_and_registry_work_through_the_server(
    production,
    production_client,
    s3,
    secrets,
    small_config,
    atlas_file,
    tmp_path,
    deconv,
    secret_values,
):
    secrets.chdir(tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        secrets.delenv(name)
    mlflow.set_tracking_uri(None)
    config = small_config(training={"num_epochs": 1})
    status, _, error = deconv("train", config, "--data", atlas_file)
    assert status == 0, error
    assert not (tmp_path / "mlflow.db").exists()
    (run,) = production_client.search_runs(
        [production_client.get_experiment_by_name("sparse-deconvolution").experiment_id]
    )
    assert run.info.status == "FINISHED"
    status, output, _ = deconv("promote", run.info.run_id)
    assert "is version 1 of sparse-deconvolution" in output
    folder = Path(fetch_model("models:/sparse-deconvolution/1"))
    assert (folder / "weights.safetensors").stat().st_size > 1000
    assert any("weights.safetensors" in key for key in s3.keys(production.database))
    # Its run is old, in a sense, and a model of it is registered: gc leaves all of it.
    for name, value in secret_values.items():
        secrets.setenv(name, value)
    status, output, _ = deconv("server", "gc", *production.options, "--older-than", "0")
    assert run.info.run_id not in output


def test_status_says_what_runs_and_on_what(production, secrets, deconv):
    status, output, _ = deconv("server", "status", *production.options)
    assert status == 0
    found = dict(re.split(r"  +", line, maxsplit=1) for line in output.splitlines())
    assert found["server"] == f"{production.started.address}, process {production.started.pid}"
    assert found["MLflow"] == mlflow.__version__
    assert found["database"] == production.values["database"]
    assert found["artifacts"] == production.values["artifacts"]
    assert int(found["experiments"]) >= 1
    assert re.fullmatch(r"[0-9a-f]{12}", found["schema"])
    assert found["users"] == "with passwords"


def test_secrets_are_in_no_command_line_and_no_file_of_others(production):
    secrets = ["correct-horse", "r%40nd", "r@nd", "testsecret", "0123456789abcdef"]
    processes = production.started.processes()
    assert len(processes) >= 4  # mlflow, uvicorn, two workers
    for pid in processes:
        command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
        assert not [word for word in secrets if word in command]
    log = production.log.read_text()
    assert not [word for word in secrets if word in log]
    for path in production.log.parent.iterdir():
        if any(word in path.read_text() for word in secrets):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_strangers_and_other_names_are_refused(production, production_client):
    search = f"{production.started.address}/api/2.0/mlflow/experiments/search?max_results=1"
    user = ("admin", os.environ["MLFLOW_TRACKING_PASSWORD"])
    assert requests.get(search, timeout=120).status_code == 401
    assert requests.get(search, auth=("admin", "password1234"), timeout=120).status_code == 401
    assert requests.get(search, auth=user, timeout=120).status_code == 200
    evil = {"Host": "evil.example"}
    assert requests.get(search, auth=user, headers=evil, timeout=120).status_code == 403


def test_second_start_and_taken_port_are_refused(production, production_options, secrets, deconv):
    status, _, error = deconv("server", "start", *production.options)
    assert status == 2
    assert f"the server runs already, at {production.started.address}" in error
    other = production_options(port=production.values["port"])
    status, _, error = deconv("server", "start", *other)
    assert status == 2
    assert f"127.0.0.1:{production.values['port']}: cannot listen; got Address already" in error


def test_backup_of_a_running_server_is_restored_elsewhere(
    production, production_client, production_options, postgres, s3, secrets, deconv, tmp_path
):
    experiment = production_client.create_experiment("kept")
    run = production_client.create_run(experiment).info.run_id
    production_client.log_metric(run, "kept/mae", 0.0123, step=7)
    production_client.log_text(run, "weights", "model/file.txt")
    status, output, _ = deconv("server", "backup", *production.options, tmp_path / "backup")
    assert status == 0, output
    assert re.search(r"backup: \d+ runs, \d+ artifacts", output)
    manifest = json.loads((tmp_path / "backup" / "manifest.json").read_text())
    name = f"artifacts/0/{experiment}/{run}/artifacts/model/file.txt"
    assert manifest["files"][name]["bytes"] == 7

    target = production_options()
    database = target[3].rsplit("/", 1)[1]
    status, output, error = deconv("server", "restore", *target, tmp_path / "backup")
    assert status == 0, error
    assert postgres.query(database, "SELECT step, value FROM metrics WHERE key = 'kept/mae'") == [
        (7, 0.0123)
    ]
    assert f"{database}/{experiment}/{run}/artifacts/model/file.txt" in s3.keys(database)
    assert postgres.query(database, "SELECT username FROM users") == [("admin",)]

    status, _, error = deconv("server", "restore", *target, tmp_path / "backup")
    assert status == 2
    assert "the database is not empty; got" in error
    status, _, error = deconv("server", "restore", *target, "--replace", tmp_path / "backup")
    assert status == 0, error

    (tmp_path / "backup" / name).write_text("weightz")
    status, _, error = deconv("server", "restore", *target, "--replace", tmp_path / "backup")
    assert status == 2
    assert "file.txt: the file is not what was backed up" in error
    status, _, error = deconv("server", "restore", *production.options, tmp_path / "backup")
    assert status == 2


def test_restore_over_a_running_server_is_refused(production, secrets, deconv, tmp_path):
    assert deconv("server", "backup", *production.options, tmp_path / "backup")[0] == 0
    status, _, error = deconv(
        "server", "restore", *production.options, "--replace", tmp_path / "backup"
    )
    assert status == 2
    assert "the server runs; expected stop it first" in error


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DECONV_DATABASE_PASSWORD", "wrong", "the password is wrong (see DECONV_DATABASE_"),
        ("DECONV_DATABASE_PASSWORD", None, "it wants a password (see DECONV_DATABASE_"),
        ("DECONV_SECRET_KEY", None, "the key of sessions is not set"),
        ("DECONV_SECRET_KEY", "short", "DECONV_SECRET_KEY is too short; got 5 characters"),
        ("DECONV_ADMIN_PASSWORD", None, "the password of the new admin is not set"),
        ("AWS_ACCESS_KEY_ID", "nobody", "S3 refuses"),
        ("AWS_SECRET_ACCESS_KEY", "wrong", "S3 refuses"),
    ],
)
def test_missing_and_wrong_secrets_are_named(
    production_options, secrets, deconv, fresh_database, name, value, message
):
    if value is None:
        secrets.delenv(name)
    else:
        secrets.setenv(name, value)
    status, _, error = deconv("server", "start", *production_options(fresh_database), "--detach")
    assert status == 2
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.fixture(scope="module")
def fresh_database(postgres):
    return postgres.create()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 3}, r"got max_connections 300, 3 of them reserved; expected 382 or more"),
        ({"url": "postgresql://postgres@127.0.0.1:1/deconv"}, "cannot reach the database"),
        ({"artifacts": "s3://nowhere"}, "s3://nowhere: S3 refuses; got NoSuchBucket"),
        ({"s3_endpoint": "http://127.0.0.1:1"}, "cannot use S3; got Could not connect"),
    ],
    ids=["connections", "database", "bucket", "endpoint"],
)
def test_what_the_server_needs_is_checked_before_it_starts(
    production_options, secrets, deconv, fresh_database, settings, message
):
    status, _, error = deconv("server", "start", *production_options(fresh_database, **settings))
    assert status == 2
    assert message in error
    assert len(error.splitlines()) == 1


def test_secret_from_a_file_is_used_if_only_its_owner_can_read_it(
    production, secrets, deconv, tmp_path
):
    file = tmp_path / "password"
    file.write_text(os.environ["DECONV_DATABASE_PASSWORD"] + "\n")
    secrets.delenv("DECONV_DATABASE_PASSWORD")
    secrets.setenv("DECONV_DATABASE_PASSWORD_FILE", str(file))
    file.chmod(0o600)
    assert deconv("server", "status", *production.options)[0] == 0
    file.chmod(0o640)
    status, _, error = deconv("server", "status", *production.options)
    assert status == 2
    assert "others can read the secret; got mode 640; expected mode 600" in error


def test_permissions_hold_for_users_that_the_admin_makes(production, production_client):
    address, admin = production.started.address, ("admin", os.environ["MLFLOW_TRACKING_PASSWORD"])

    def create(user, password, by):
        return requests.post(
            f"{address}/api/2.0/mlflow/users/create",
            json={"username": user, "password": password}, auth=by, timeout=120,
        ).status_code  # fmt: skip

    assert create("short", "secret", admin) == 400
    member = ("member", "a-long-enough-one")
    assert create(*member, admin) == 200
    assert create("friend", "a-long-enough-two", member) == 403
    run = production_client.create_run("0").info.run_id
    point = {"run_id": run, "key": "m", "value": 1.0, "timestamp": 1, "step": 0}
    log = f"{address}/api/2.0/mlflow/runs/log-metric"
    assert requests.post(log, json=point, auth=member, timeout=120).status_code == 403
    assert requests.post(log, json=point, auth=admin, timeout=120).status_code == 200
    delete = f"{address}/api/2.0/mlflow/experiments/delete"
    answer = requests.post(delete, json={"experiment_id": "0"}, auth=member, timeout=120)
    assert answer.status_code == 403


def test_gc_deletes_a_run_from_postgres_and_s3(
    production, production_client, postgres, s3, deconv
):
    client = production_client
    experiment = client.create_experiment("gc")
    run = client.create_run(experiment, start_time=1).info.run_id
    other = client.create_run(experiment).info.run_id
    client.log_text(run, "state", "folder/file.txt")
    model = client.create_logged_model(experiment, name="model", source_run_id=other)
    client.log_batch(run, metrics=[Metric("mae", 0.1, 1, 1, model_id=model.model_id)])
    client.set_terminated(run, "FAILED", end_time=1000)
    prefix = f"{production.database}/{experiment}/{run}/"
    assert s3.keys(prefix)
    status, output, error = deconv("server", "gc", *production.options)
    assert status == 0, error
    assert f"run    {run}  (failed)" in output
    assert not s3.keys(prefix)
    left = "SELECT count(*) FROM runs WHERE run_uuid = %s"
    assert postgres.query(production.database, left, run) == [(0,)]
    assert postgres.query(production.database, left, other) == [(1,)]
