"""A production server: PostgreSQL, a real S3 server that checks keys, and passwords."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from databases import Postgres
from mlflow.tracking import MlflowClient
from ports import free_port

ADMIN_PASSWORD = "correct-horse-battery"
S3_KEYS = ("testkey", "testsecret")
SECRETS = {
    "DECONV_DATABASE_PASSWORD": Postgres.password,
    "DECONV_ADMIN_PASSWORD": ADMIN_PASSWORD,
    "DECONV_SECRET_KEY": "0123456789abcdef" * 2,
    "AWS_ACCESS_KEY_ID": S3_KEYS[0],
    "AWS_SECRET_ACCESS_KEY": S3_KEYS[1],
}


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class S3:
    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.client = boto3.client(
            "s3", endpoint_url=endpoint, aws_access_key_id=S3_KEYS[0],
            aws_secret_access_key=S3_KEYS[1],
        )  # fmt: skip

    def keys(self, prefix):
        found = self.client.list_objects_v2(Bucket="deconv", Prefix=prefix)
        return [entry["Key"] for entry in found.get("Contents", ())]


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    port = free_port()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}",
         str(tmp_path_factory.mktemp("s3"))],
        env={**os.environ, "RCLONE_AUTH_KEY": f'"{",".join(S3_KEYS)}"'},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not answers(port):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        store = S3(f"http://127.0.0.1:{port}")
        store.client.create_bucket(Bucket="deconv")
        yield store
    finally:
        process.terminate()
        process.wait(timeout=120)


@pytest.fixture
def secrets(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def secret_values():
    return dict(SECRETS)


@pytest.fixture(scope="session")
def production_options(postgres, s3, tmp_path_factory):
    """Make the options of a production server with a database and artifacts of its own."""

    def options(database=None, url=None, **settings):
        database = database or postgres.create()
        values = {
            "database": url or postgres.url(database), "artifacts": f"s3://deconv/{database}",
            "s3_endpoint": s3.endpoint, "port": free_port(),
            "state": tmp_path_factory.mktemp("state"), **settings,
        }  # fmt: skip
        overrides = [part for k, v in values.items() for part in ("--set", f"{k}={v}")]
        return "--profile", "production", *overrides

    return options


class Production:
    """A server that runs, and what its client needs."""

    def __init__(self, options, started):
        self.options, self.started = options, started
        self.values = dict(o.split("=", 1) for o in options if "=" in o)
        self.database = self.values["database"].rsplit("/", 1)[1]
        self.log = Path(self.values["state"]) / "server.log"


@pytest.fixture(scope="session")
def production(production_options):
    from experiments.server.launch import start
    from experiments.server.process import end
    from experiments.server.settings import load_settings

    options = production_options()
    settings = load_settings("production", None, options[3::2])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        started, process = start(settings, detach=True)
    try:
        yield Production(options, started)
    finally:
        end(started, 30)
        process.wait(timeout=120)


@pytest.fixture
def production_client(production, secrets):
    secrets.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    secrets.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN_PASSWORD)
    secrets.setenv("MLFLOW_TRACKING_URI", production.started.address)
    return MlflowClient(production.started.address)
