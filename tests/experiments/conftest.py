"""A real MLflow store for each test, and a run small enough for seconds."""

import shutil
import subprocess
from dataclasses import replace

import pytest
import yaml
from mlflow.tracking import MlflowClient
from stores import use_store

from experiments import gates, promotion
from experiments.gates import Policy, load_policy
from experiments.launch import train_and_report

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
def four_runs(tmp_path_factory, empty_store, atlas_file):
    """Four finished runs in a store, by name; not to be changed. The last has a test of its own.

    ``reference`` and ``weighted`` differ in a weight of the loss, ``dense`` has no presence
    stage, ``cfdna`` is of phase 3.
    """
    folder = tmp_path_factory.mktemp("four")
    shutil.copy(empty_store, folder / "mlflow.db")
    settings = {
        "reference": [],
        "weighted": ["loss.presence_weight=5", "training.learning_rate=5e-4"],
        "dense": ["model.use_two_stage=false"],
        "cfdna": ["data.mixtures.designs={cfdna: 1.0}"],
    }
    runs = {}
    with pytest.MonkeyPatch.context() as patch:
        use_store(folder, patch)
        (folder / "small.yaml").write_text(yaml.safe_dump(SMALL_RUN))
        for name, overrides in settings.items():
            overrides = ["output.study=weights", *overrides] if name == "weighted" else overrides
            shutil.copy("small.yaml", f"{name}.yaml")
            runs[name] = train_and_report(
                f"{name}.yaml", data=str(atlas_file), overrides=overrides, device="cpu"
            )
    return folder, runs


@pytest.fixture
def runs(four_runs, monkeypatch):
    """The folder of `four_runs` as working directory, and the runs by name."""
    folder, found = four_runs
    use_store(folder, monkeypatch)
    return {name: replace(run, folder=folder / run.folder) for name, run in found.items()}


@pytest.fixture
def trained(store, small_config, atlas_file):
    def train(*overrides):
        return train_and_report(str(small_config()), data=str(atlas_file), overrides=overrides)

    return train


@pytest.fixture
def lenient(monkeypatch):
    """The small run is too short for the loss to fall and to be sure; the other gates stay.

    Code under test is changed code.
    """
    policy = load_policy()
    left_out = ("val/loss_trend", "test/calibration_error", "test/interval_coverage")
    content = policy.model_dump()
    content["metrics"] = {k: v for k, v in content["metrics"].items() if k not in left_out}
    content["lineage"]["allow_changed_code"] = True
    content["test"]["min_samples"] = 50
    found = Policy.model_validate(content)
    monkeypatch.setattr(gates, "load_policy", lambda path=None: found)
    monkeypatch.setattr(promotion, "load_policy", lambda path=None: found)
    return found


@pytest.fixture
def client(store):
    return MlflowClient()


@pytest.fixture(scope="session")
def small_run():
    """The small run's configuration, not to be changed."""
    return SMALL_RUN


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
