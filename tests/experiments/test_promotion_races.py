"""Many who promote at once, and promotions killed anywhere: `production` is always whole.

Against a real tracking server, as people on several machines would have.
"""

import os
import random
import signal
import subprocess
import sys
import time
import urllib.request

import mlflow
import promoters
import pytest
from mlflow.tracking import MlflowClient
from ports import free_port

from experiments.gates import Policy, load_policy
from experiments.launch import train_and_report
from experiments.moves import QUALIFIED, moves
from experiments.names import BOOK, MODEL_NAME
from experiments.promotion import promote, verify

SIZES = [
    pytest.param(6, 10, id="small"),
    pytest.param(20, 50, id="full", marks=pytest.mark.slow),
]


@pytest.fixture
def server(store):
    """A tracking server on the store of the test."""
    port = free_port()
    with (store / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port",
             str(port), "--workers", "1", "--backend-store-uri", f"sqlite:///{store}/mlflow.db",
             "--artifacts-destination", str(store / "artifacts")],
            stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{uri}/health"):
                    break
            except OSError:
                if time.monotonic() > deadline:
                    raise TimeoutError((store / "server.log").read_text()) from None
                time.sleep(0.2)
        mlflow.set_tracking_uri(uri)
        yield uri
    finally:
        mlflow.set_tracking_uri(None)
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture
def policy():
    """Any sparse model may be the first champion; a better one replaces it."""
    content = load_policy().model_dump()
    content["metrics"] = {"test/mae": {"max": 0.5}}
    content["lineage"]["allow_changed_code"] = True
    return Policy.model_validate(content)


@pytest.fixture
def runs(server, small_config, atlas_file):
    """Runs from bad to good, on the same test mixtures."""

    def train(*overrides):
        result = train_and_report(
            str(small_config()), data=str(atlas_file),
            overrides=["data.test_mixtures=200", *overrides],
        )  # fmt: skip
        return result.run_id

    chance = ("model.atlas_start=false", "training.learning_rate=0.002")
    return [
        train(*chance, "training.num_epochs=1"),
        train(*chance, "training.num_epochs=25"),
        train("training.num_epochs=1"),
    ]


def assert_whole(client, allowed):
    """Production names a version that passed, that is complete, of one of these runs."""
    version = client.get_model_version_by_alias(MODEL_NAME, "production")
    assert QUALIFIED in version.tags
    assert version.run_id in allowed
    verify(client, str(version.version))
    return version


@pytest.mark.parametrize(("n_at_once", "n_kills"), SIZES)
def test_all_at_once_and_kills_at_random_points(server, policy, runs, n_at_once, n_kills):
    client, answers = MlflowClient(), promoters.context.Queue()
    assert promote(runs[0], policy=policy).promoted
    started = [
        promoters.start(server, policy, runs[i % len(runs)], answers) for i in range(n_at_once)
    ]
    told = [answers.get(timeout=400) for _ in started]
    for process in started:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert {kind for kind, *_ in told} <= {"promoted", "refused"}, told
    assert assert_whole(client, runs).run_id == runs[-1]  # the best, whoever was first
    assert ("promoted", runs[-1], []) in told
    for kind, run_id, failed in told:
        if kind == "refused":
            assert run_id != runs[-1]
            assert "better than production" in failed
    assert len(client.search_model_versions(f"name = '{MODEL_NAME}'")) == len(runs)
    assert {t.tags["state"] for t in client.search_model_versions(f"name = '{BOOK}'")} == {
        "closed"
    }

    # Back and forth between the best two that were production, killed anywhere on the way.
    usual = {}
    for run_id, kind in ((None, "rolled back"), (runs[-1], "promoted")):
        begin = time.monotonic()
        process = promoters.start(server, policy, run_id, answers)
        assert answers.get(timeout=300)[0] == kind
        process.join(timeout=60)
        usual[run_id] = time.monotonic() - begin
    rng, n_moved = random.Random(0), len(moves(client))
    for attempt in range(5 * n_kills):
        if attempt >= n_kills and len(moves(client)) > n_moved:
            break  # some got far enough to matter
        before = client.get_model_version_by_alias(MODEL_NAME, "production")
        run_id = None if before.run_id == runs[-1] else runs[-1]
        process = promoters.start(server, policy, run_id, None)
        process.join(timeout=rng.uniform(0.8 * (attempt % 2), 1.2) * usual[run_id])
        process.kill()
        process.join(timeout=60)
        assert_whole(client, runs)
    assert len(moves(client)) > n_moved
    # The next finishes what they left, without waiting for anyone's ticket to expire.
    last = promoters.start(server, policy, runs[-1], answers)
    assert answers.get(timeout=100)[0] == "promoted"
    last.join(timeout=60)
    assert assert_whole(client, runs).run_id == runs[-1]
    assert not [m for m in moves(client) if m.stage == "moving"]
