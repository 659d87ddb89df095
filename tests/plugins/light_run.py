"""Runs that track but do not train, what a store has of a run, and a real server to kill."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient
from ports import free_port

from experiments.lineage import run_line
from experiments.own_run import SPOOL_TAG
from experiments.run_datasets import dataset_data
from experiments.tracking import TrackedRun

EXPERIMENT = "light"


def opening(name):
    dataset = dataset_data(
        "train", "0" * 16, source="a.h5ad", profile={"samples": 3}, context="train"
    )
    return {
        "run": run_line(name, EXPERIMENT, {"sparse": "true"}),
        "params": {"params": {"loss.presence_weight": "1.0"}},
        "datasets": {"datasets": [dataset]},
    }


def light_run(folder, *, n_epochs=3, n_metrics=4, wait=0.3, alerts=None, pace=None):
    """Begin or go on with a run, and end it: epochs, files, a model, as training does.

    ``pace`` is called before each epoch with its number, and may let it wait.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tracked = TrackedRun(folder, opening(folder.name), wait=wait, alerts=alerts)
    try:
        (folder / "config.yaml").write_text("random_seed: 0\n")
        tracked.log_files(["config.yaml"])
        for epoch in range(1, n_epochs + 1):
            if pace is not None:
                pace(epoch)
            metrics = {f"train/m{n}": n + 1 / epoch for n in range(n_metrics)}
            tracked.log_metrics(metrics, step=epoch)
        tracked.log_summary({"test/mae": 0.01}, step=n_epochs)
        (folder / "figures").mkdir(exist_ok=True)
        (folder / "figures" / "miami.png").write_bytes(b"\x89PNG")
        tracked.log_files(["figures/miami.png"])
        (folder / "MLmodel").write_text("flavors: {}\nrun_id: none\n")
        files = {"MLmodel": "MLmodel", "artifacts/bundle/weights": "figures/miami.png"}
        tracked.log_model("model", files, step=n_epochs, tags={"epoch": str(n_epochs)})
    finally:
        tracked.finish("FINISHED")
        # A process would end here, and with it a request that it no longer waits for.
        for follower in tracked._followers:
            follower._thread.join(timeout=60)
    return tracked


def runs_in(uri):
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    return client.search_runs([experiment.experiment_id], run_view_type=ViewType.ACTIVE_ONLY)


def snapshot(uri, *, times=True):
    """Everything that a store has of its one run, but for the ids that it gave."""
    client = MlflowClient(uri)
    (run,) = runs_in(uri)
    run_id = run.info.run_id
    names = sorted(run.data.metrics)
    history = {n: [point(p, times) for p in client.get_metric_history(run_id, n)] for n in names}
    own = {SPOOL_TAG, "model_uri"}
    models = []
    for model in client.search_logged_models([run.info.experiment_id]):
        if model.source_run_id != run_id:
            continue  # of a run that was deleted
        values = sorted((m.key, m.step, m.value) for m in model.metrics or [])
        tags = {k: v for k, v in model.tags.items() if k not in own}
        files = [f.path for f in client.list_logged_model_artifacts(model.model_id)]
        files += [f.path for f in client.list_logged_model_artifacts(model.model_id, "artifacts")]
        models.append((model.name, str(model.status), tags, values, sorted(files)))
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "times": (run.info.start_time, run.info.end_time) if times else None,
        "params": run.data.params,
        "tags": {k: v for k, v in run.data.tags.items() if k not in own},
        "spool": run.data.tags[SPOOL_TAG] if times else None,
        "metrics": history,
        "inputs": [
            (d.dataset.name, d.dataset.digest, d.dataset.profile, [t.value for t in d.tags])
            for d in run.inputs.dataset_inputs
        ],
        "n_outputs": len(run.outputs.model_outputs),
        "files": {path: content(client, run_id, path) for path in artifacts(client, run_id)},
        "models": models,
    }


def point(metric, times):
    return (metric.step, metric.value, metric.timestamp if times else None)


def artifacts(client, run_id, path=None):
    found = []
    for item in client.list_artifacts(run_id, path):
        found += artifacts(client, run_id, item.path) if item.is_dir else [item.path]
    return sorted(found)


def content(client, run_id, path):
    with TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, path, folder)).read_bytes()


class Server:
    """A real `mlflow server` on a port of its own; `kill` is kill -9 of all its processes."""

    def __init__(self, folder, backend, *options, environment=None):
        self._folder, self._backend, self._options = folder, backend, options
        self._environment = environment or {}
        self._port = free_port()
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process = None

    def start(self):
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
            "--port", str(self._port), "--workers", "1", "--backend-store-uri", self._backend,
            "--artifacts-destination", str(self._folder / "artifacts"), *self._options,
        ]  # fmt: skip
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder, start_new_session=True,
                env={
                    **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    **self._environment,
                },
            )  # fmt: skip

    def wait(self, seconds=300):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError((self._folder / "server.log").read_text())

    @property
    def pid(self):
        """The number of its process and of its process group."""
        return self._process.pid

    def kill(self):
        """End every process of the server at once, as a power cut does."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # somebody else killed it
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def __enter__(self):
        self.start()
        self.wait()
        return self

    def __exit__(self, *_):
        self.kill()
