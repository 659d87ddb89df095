"""What tests of studies share: a tracking store, PostgreSQL, and studies of tiny runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import mlflow
import pytest
import yaml
from mlflow.tracking import MlflowClient
from ports import free_port

from tuning.config import StudyConfig
from tuning.study import Study

TOOLS = Path(__file__).parents[1] / "tools"
DECONV = str(Path(sys.executable).with_name("deconv"))
TINY = {
    "data": {
        "validation_mixtures": 40,
        "test_mixtures": 40,
        "mixtures": {"designs": {"several": 1.0}, "background": ["Blood"], "depth": [10, 30]},
    },
    "model": {"hidden_size": 8, "intermediate_size": 16},
    "training": {"num_epochs": 3, "batch_size": 16, "mixtures_per_epoch": 32},
    "output": {"wait_for_server": 60},
    "random_seed": 0,
}


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An SQLite store with its tables: creating them takes seconds, a copy none."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        client.search_experiments()
        client.create_experiment("sparse-deconvolution", artifact_location="mlartifacts")
    return folder / "mlflow.db"


@pytest.fixture
def place(tmp_path, monkeypatch, empty_store, atlas_file):
    """A working directory with a tracking store of its own and the tiny run's configuration."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    mlflow.set_tracking_uri(None)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path


@pytest.fixture
def settings(place, atlas_file):
    """Settings of a study of tiny runs; keywords replace them."""

    def make(**changed):
        return {
            "name": "study",
            "base": "tiny.yaml",
            "data": str(atlas_file),
            "sampler": {"kind": "tpe", "seed": 1, "startup_trials": 2},
            "pruner": {"kind": "none"},
            "budget": {"trials": 3},
            "where": {"kind": "local", "processes": 2, "threads": 1, "device": "cpu"},
            **changed,
        }

    return make


@pytest.fixture
def begin(settings):
    """Begin a study of tiny runs."""

    def make(plan=(), **changed):
        return Study.begin(StudyConfig.model_validate(settings(**changed)), plan)

    return make


@pytest.fixture
def write_study(place, settings):
    """Write the YAML file of a study."""

    def write(**changed):
        (place / "study.yaml").write_text(yaml.safe_dump(settings(**changed)))
        return place / "study.yaml"

    return write


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL server; its URL."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("PostgreSQL is not installed")
    folder = Path(mkdtemp(prefix="deconv-pg-"))  # pytest's folders are closed to its user
    folder.chmod(0o755)
    port = free_port()
    environment = {
        **os.environ, "PG_LAB": str(folder / "pg"), "PG_LAB_PORT": str(port),
        "PG_LAB_PASSWORD": "study",
    }  # fmt: skip
    try:
        subprocess.run(
            [TOOLS / "postgres" / "start-pg.sh"], env=environment, check=True, capture_output=True
        )
        yield f"postgresql://postgres:study@127.0.0.1:{port}"
    finally:
        subprocess.run(
            [TOOLS / "postgres" / "stop-pg.sh"], env=environment, check=True, capture_output=True
        )
        shutil.rmtree(folder)


@pytest.fixture
def postgres(postgres_server, request):
    """An empty database of the server; its URL."""
    from sqlalchemy import create_engine, text

    name = f"test_{abs(hash(request.node.name)) % 10**8}"
    engine = create_engine(
        f"{postgres_server}/postgres".replace("postgresql:", "postgresql+psycopg2:"),
        isolation_level="AUTOCOMMIT",
    )
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{postgres_server}/{name}"


def runs_of(study):
    """The MLflow runs of a study by trial number, its own without one."""
    client = MlflowClient()
    ids = [e.experiment_id for e in client.search_experiments()]
    found = client.search_runs(ids, f"tags.study = '{study.config.name}'", max_results=1000)
    trials = {}
    for run in found:
        name = run.info.run_name.rpartition("-")[2]
        key = int(name) if name.isdigit() else None
        assert key not in trials, f"trial {key} has two runs"
        assert key is None or run.data.tags.get("trial.number") in (None, str(key))
        trials[key] = run
    return trials
