"""An MLflow store that is ready for use: creating its tables takes seconds, a copy none."""

import shutil

import pytest

from deconv.files import replacing


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An SQLite file with the tables, to be copied."""
    from mlflow.tracking import MlflowClient

    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


def use_store(folder, monkeypatch):
    """Make a folder the working directory, and its database MLflow's."""
    import mlflow

    monkeypatch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    mlflow.set_tracking_uri(None)


@pytest.fixture
def store(tmp_path, monkeypatch, empty_store):
    """A working directory with a store of its own, used as MLflow does by default."""
    with replacing(tmp_path / "mlflow.db") as temporary:
        shutil.copy(empty_store, temporary)
    use_store(tmp_path, monkeypatch)
    return tmp_path
