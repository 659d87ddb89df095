"""The commands that the README gives to a lab, as they stand there, on a server of its own."""

import os
import shlex
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import yaml
from mlflow.tracking import MlflowClient
from ports import free_port

FILES = resources.files("mlruns_config")
README = Path(__file__).parents[3] / "README.md"
BACKUP = "/backups/2026-11-26"
MAE = "SELECT step, value FROM metrics WHERE key = 'kept/mae'"


def documented():
    """Return the line that reads the secrets, and the other commands by name."""
    section = README.read_text().split("\n## A server for a lab\n")[1]
    first, *lines = section.split("```sh\n")[1].split("```")[0].splitlines()
    return first, {line.split()[2]: line for line in lines}


@pytest.fixture
def lab(store, postgres, s3, secrets, secret_values):
    """A folder with `lab.yaml` and `lab.env`, filled in; returns it and what runs a command."""
    database = postgres.create()
    content = yaml.safe_load((FILES / "server.yaml").read_text())
    content["profiles"]["production"].update(
        database=postgres.url(database), artifacts=f"s3://deconv/{database}", port=free_port(),
        s3_endpoint=s3.endpoint, state=str(store / "state"),
    )  # fmt: skip
    (store / "lab.yaml").write_text(yaml.safe_dump(content))
    filled = [
        f"{name}{shlex.quote(secret_values[name.rstrip('=')])}" if name.endswith("=") else name
        for name in (FILES / "env.example").read_text().splitlines()
    ]
    (store / "lab.env").write_text("\n".join(filled) + "\n")
    (store / "lab.env").chmod(0o600)
    for name in secret_values:
        secrets.delenv(name)
    reading, commands = documented()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(name):
        line = f"{reading}\n{commands[name]}".replace(BACKUP, str(store / "backup"))
        done = subprocess.run(
            ["bash", "-ec", line], cwd=store, env={**os.environ, "PATH": path},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def lose_everything():
        """Drop the database and the artifacts, and make an empty database of that name."""
        postgres.query("postgres", f"DROP DATABASE {database}")
        postgres.query("postgres", f"CREATE DATABASE {database}")
        for key in s3.keys(f"{database}/"):
            s3.client.delete_object(Bucket="deconv", Key=key)

    run.database, run.lose_everything = database, lose_everything
    run.address = f"http://127.0.0.1:{content['profiles']['production']['port']}"
    return run


def test_every_command_does_what_it_says(lab, client, postgres, s3, secrets, secret_values):
    client.log_metric(client.create_run("0").info.run_id, "local/mae", 0.5)
    try:
        assert f"{lab.address} answers" in lab("start")
        secrets.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        secrets.setenv("MLFLOW_TRACKING_PASSWORD", secret_values["DECONV_ADMIN_PASSWORD"])
        remote = MlflowClient(lab.address)
        run_id = remote.create_run("0").info.run_id
        remote.log_metric(run_id, "kept/mae", 0.0123, step=7)
        remote.log_text(run_id, "weights", "model/file.txt")
        secrets.delenv("MLFLOW_TRACKING_USERNAME")
        secrets.delenv("MLFLOW_TRACKING_PASSWORD")
        assert lab.address in lab("status")
        assert "backup: 1 runs" in lab("backup")
        assert "0 thing(s) older than 30 days would go" in lab("gc")
    finally:
        lab("stop")

    lab.lose_everything()
    assert "1 runs and" in lab("restore")
    assert postgres.query(lab.database, MAE) == [(7, 0.0123)]
    assert s3.keys(f"{lab.database}/0/{run_id}/artifacts/model/file.txt")

    lab.lose_everything()
    assert "all rows compared" in lab("migrate")
    moved = postgres.query(lab.database, MAE.replace("kept", "local"))
    assert moved == [(0, 0.5)]
