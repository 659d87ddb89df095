"""Commands that people wait for load only what they use, and tell nobody."""

import os
import subprocess
import sys

import pytest
from mlflow.entities import Metric

from experiments.reading import EXPERIMENT

# The signs by which MLflow takes a process for a test or CI, where it does not report anyway.
SIGNS = ("PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS", "GITLAB_CI", "RUNBOT_WORKER_ID")
CODE = """
import gc, sys
from deconv.cli import main
main(sys.argv[1:])
heavy = {'torch', 'anndata', 'sklearn', 'h5py', 'matplotlib', 'numba'} & set(sys.modules)
from mlflow.telemetry.client import get_telemetry_client
sys.exit(repr((heavy, get_telemetry_client(), gc.isenabled())))
"""
QUIET = repr((set(), None, True))


@pytest.fixture
def two_runs(store, client):
    experiment = client.create_experiment(EXPERIMENT)
    for name in ("one", "two"):
        run_id = client.create_run(experiment, run_name=name).info.run_id
        metrics = [Metric(key, 0.1, 1, 1) for key in ("best/val/mae", "val/mae", "test/mae")]
        client.log_batch(run_id, metrics=metrics)
        client.set_terminated(run_id)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["leaderboard"], "2 runs by best/val/mae"),
        (["compare", "one", "two"], "test/mae"),
        (["compare", "one", "two", "--html", "page.html"], "page.html"),
        (["models"], "versions of"),
        (["runs", "show", "one"], "one"),
    ],
    ids=["leaderboard", "compare", "page", "models", "show"],
)
def test_command_loads_nothing_heavy(two_runs, arguments, shown):
    environment = {k: v for k, v in os.environ.items() if k not in SIGNS}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shown in done.stdout, done.stderr
    assert done.stderr.splitlines()[-1] == QUIET
