"""What tests of studies share: a tracking store, a database, and studies of tiny runs."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml
from stores import use_store

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
def study_store(tmp_path_factory, empty_store):
    """A store in which the experiment is there: workers would make it all at once."""
    from mlflow.tracking import MlflowClient

    folder = tmp_path_factory.mktemp("study")
    shutil.copy(empty_store, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        client.create_experiment("sparse-deconvolution", artifact_location="mlartifacts")
    return folder / "mlflow.db"


@pytest.fixture
def place(tmp_path, monkeypatch, study_store, atlas_file):
    """A working directory with a tracking store of its own and the tiny run's configuration."""
    shutil.copy(study_store, tmp_path / "mlflow.db")
    use_store(tmp_path, monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
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
    from tuning.config import StudyConfig  # only where it is needed: it takes seconds
    from tuning.study import Study

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


@pytest.fixture
def database(postgres):
    """An empty PostgreSQL database; its URL, with the password."""
    return postgres.full_url(postgres.create())


def runs_of(study):
    """The MLflow runs of a study by trial number, its own without one."""
    from mlflow.tracking import MlflowClient

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
