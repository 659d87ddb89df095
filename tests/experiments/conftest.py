"""A real MLflow store for each test, and a run small enough for seconds."""

import shutil
import subprocess

import mlflow
import pytest
import yaml
from mlflow.tracking import MlflowClient

from deconv.files import replacing

SMALL_RUN = {
    "data": {
        "validation_mixtures": 60,
        "test_mixtures": 80,
        "mixtures": {"designs": {"several": 1.0}, "background": ["Blood"], "depth": [10, 30]},
    },
    "model": {"hidden_size": 16, "intermediate_size": 32},
    "training": {"num_epochs": 3, "batch_size": 16, "mixtures_per_epoch": 64},
    "random_seed": 0,
}


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An SQLite store with its tables: creating them takes seconds, a copy none."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def store(tmp_path, monkeypatch, empty_store):
    """A working directory with a store of its own, used as MLflow does by default."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    with replacing(tmp_path / "mlflow.db") as temporary:
        shutil.copy(empty_store, temporary)
    mlflow.set_tracking_uri(None)
    return tmp_path


@pytest.fixture
def client(store):
    return MlflowClient()


@pytest.fixture
def small_config(tmp_path):
    """Write a configuration; sections given as keywords update the small run's."""

    def write(name="small.yaml", **sections):
        content = {k: dict(v) if isinstance(v, dict) else v for k, v in SMALL_RUN.items()}
        for section, values in sections.items():
            content[section] = {**content.get(section, {}), **values}
        (tmp_path / name).write_text(yaml.safe_dump(content))
        return tmp_path / name

    return write


@pytest.fixture
def full_disk(tmp_path):
    """A file system of its own with 64 kB left; a file `ballast` is there to be removed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting a file system needs rights: {done.stderr.strip()}")
    try:
        (folder / "ballast").write_bytes(bytes(2**20 - 2**16))
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
