"""What becomes production is what was judged, whatever a run's tags, files and metrics say."""

import pickle
import shutil
import sqlite3
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
import yaml
from ports import free_port
from small_models import write_small_bundle

from deconv.bundle import write_bundle
from deconv.errors import CheckpointError
from experiments.benchmark_file import write_benchmark
from experiments.config import load_config
from experiments.fetch import fetch_model, file_hashes, open_registered
from experiments.gates import Verdict
from experiments.mlflow_model import model_files
from experiments.names import FILES_HASH, MODEL_NAME
from experiments.predict import load_model
from experiments.promotion import promote
from experiments.referee import read_benchmark
from experiments.registry import model_uri, verify
from experiments.replay import MODEL_TAG
from experiments.sides import STATS
from experiments.wrapper import check_wrapper

OWN = "the run's own model"


def reasons(decision):
    return {v.rule: v.reason for v in decision.verdicts if not v.passed}


def stored_bundle(client, run):
    """The bundle among the run's files in the store, which people may write to."""
    return fetch_model(model_uri(client.get_run(run.run_id)))


def relabel(client, run, other):
    """Let the tag of a run lead to the model of another."""
    client.set_tag(run.run_id, MODEL_TAG, model_uri(client.get_run(other.run_id)))


@pytest.mark.parametrize(
    ("settings", "failed"),
    [(["model.atlas_start=false"], {OWN}), (["model.use_two_stage=false"], {OWN, "sparse"})],
    ids=["bad", "single-stage"],
)
def test_model_of_another_run_is_not_promoted_on_this_ones_record(
    trained, lenient, client, settings, failed
):
    good, other = trained(), trained(*settings)
    relabel(client, good, other)
    decision = promote(good.run_id)
    assert not decision.promoted
    assert failed <= set(reasons(decision))
    assert reasons(decision)[OWN].startswith("the run made ")
    assert decision.version is None
    assert not client.search_registered_models(f"name = '{MODEL_NAME}'")


def spoil(folder):
    """Change the weights of a bundle so that its hashes agree, but its answers are bad."""
    bundle = load_model(str(folder))
    with torch.no_grad():
        bundle.network.proportion_head.weight.mul_(-1)
        bundle.network.presence_head.bias += 50
    shutil.rmtree(folder)
    write_bundle(folder, bundle)


def test_weights_changed_before_they_are_registered_are_refused(trained, lenient, client):
    run = trained()
    spoil(stored_bundle(client, run))
    decision = promote(run.run_id)
    assert set(reasons(decision)) == {OWN}
    assert decision.version is None
    assert not client.search_registered_models(f"name = '{MODEL_NAME}'")


def test_metrics_logged_anew_do_not_count(trained, lenient, client):
    run = trained("model.atlas_start=false")
    for name in ("test/mae", "best/val/mae"):
        client.log_metric(run.run_id, name, 0.001, step=99)
    assert reasons(promote(run.run_id)) == {
        OWN: "the model states another value of best/val/mae, test/mae"
    }


def test_answers_put_in_place_of_the_recorded_ones_do_not_count(trained, lenient, client):
    """Also where they are as good in the mean: the comparison with production is by sample."""
    run = trained()
    folder = Path(client.get_run(run.run_id).info.artifact_uri.removeprefix("file://"))
    stats = pd.read_csv(folder / STATS)
    stats["predicted_proportion"] = (
        stats["true_proportion"] + (stats["predicted_proportion"] - stats["true_proportion"]).abs()
    )
    stats.to_csv(folder / STATS, index=False)
    found = reasons(promote(run.run_id))
    assert "is not of the model whose metrics were logged" in found["test"]
    assert "--benchmark FILE" in found["test"]


def test_run_trained_while_the_server_was_away_is_promoted_once_it_was_sent(
    trained, lenient, client, deconv, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
        run = trained("output.wait_for_server=0")
    assert run.run_id is None
    status, output, error = deconv("sync", run.folder)
    assert status == 0, output + error
    status, output, error = deconv("promote", run.folder)
    assert status == 0, output + error
    version = client.get_model_version_by_alias(MODEL_NAME, "production")
    assert (
        open_registered(MODEL_NAME, version.version).provenance["run_id"] is None
    )  # what passed is the hash
    loaded = load_model(f"models:/{MODEL_NAME}@production")
    assert loaded.provenance["run_id"] == version.run_id


def test_run_of_an_earlier_version_needs_a_benchmark_that_its_model_answers(
    trained, lenient, client, small_config, atlas_file, tmp_path
):
    """It did not record the hash of its model, only the model the run."""
    run, other = trained(), trained("random_seed=1")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("DELETE FROM params WHERE key = 'bundle.sha256'")
    database.close()
    refused = promote(run.run_id)
    assert reasons(refused) == {
        OWN: "the run did not record which model it made: give --benchmark FILE"
    }
    config = load_config(small_config(), data=str(atlas_file))
    write_benchmark(config, tmp_path / "benchmark.h5ad")
    frozen = read_benchmark(tmp_path / "benchmark.h5ad")
    own = model_uri(client.get_run(run.run_id))
    relabel(client, run, other)
    assert OWN in reasons(promote(run.run_id, benchmark=frozen))
    client.set_tag(run.run_id, MODEL_TAG, own)
    decision = promote(run.run_id, benchmark=frozen)
    assert decision.promoted, reasons(decision)


def wrapper(folder):
    """The folder in which MLflow's own files are."""
    return folder.parent.parent


def plant_line(root):
    code = root / "pyfunc_model.py"
    code.write_text(code.read_text() + "open('planted', 'w')\n")


def plant_pickle(root):
    """Let MLflow load a pickle that opens a file."""
    (root / "python_model.pkl").write_bytes(pickle.dumps(Payload()))
    change_flavor(root, lambda flavor: flavor.pop("model_code_path"))
    change_flavor(root, lambda flavor: flavor.update(python_model="python_model.pkl"))


def change_flavor(root, change):
    about = yaml.safe_load((root / "MLmodel").read_text())
    change(about["flavors"]["python_function"])
    (root / "MLmodel").write_text(yaml.safe_dump(about))


class Payload:
    """Opens a file when it is unpickled."""

    def __reduce__(self):
        return open, ("planted", "w")


PLANTED = {
    "line": (plant_line, "pyfunc_model.py is not that of this version"),
    "pickle": (plant_pickle, "python_model.pkl does not belong there"),
    "pickle among the artifacts": (
        lambda root: (root / "artifacts" / "extra.pkl").write_bytes(b""),
        "artifacts/extra.pkl does not belong there",
    ),
    "loader": (
        lambda root: change_flavor(root, lambda f: f.update(loader_module="antigravity")),
        "MLmodel: loader_module is not as",
    ),
    "folder of code": (
        lambda root: change_flavor(root, lambda f: f.update(code="input_example.json")),
        "MLmodel: code is not as",
    ),
    "other folder": (
        lambda root: change_flavor(root, lambda f: f["artifacts"]["bundle"].update(path="..")),
        "MLmodel: artifacts is not as",
    ),
    "data": (
        lambda root: change_flavor(root, lambda f: f.update(data="x")),
        "MLmodel: data is not as",
    ),
    "package": (
        lambda root: (root / "requirements.txt").write_text("mlflow\ntorch @ file:///tmp/x.whl\n"),
        "requirements.txt asks for torch @ file",
    ),
    "index": (
        lambda root: (root / "requirements.txt").write_text("--index-url http://x\n"),
        "requirements.txt asks for --index-url",
    ),
    "no YAML": (lambda root: (root / "MLmodel").write_text("a: ["), "cannot be read"),
}


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory, pure, mixture_config):
    """A bundle in a folder of MLflow's."""
    folder = tmp_path_factory.mktemp("wrapped")
    write_small_bundle(folder / "bundle", pure, mixture_config)
    for place, path in model_files(folder, "bundle").items():
        (folder / "model" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / path, folder / "model" / place)
    return folder / "model"


@pytest.mark.parametrize("name", list(PLANTED))
def test_wrapper_that_would_run_something_else_is_refused(wrapped, tmp_path, name):
    plant, reason = PLANTED[name]
    shutil.copytree(wrapped, tmp_path / "model")
    bundle = tmp_path / "model" / "artifacts" / "bundle"
    assert check_wrapper(bundle) == Verdict("MLflow's wrapper", True, "as this package writes it")
    before = file_hashes(bundle)
    plant(tmp_path / "model")
    verdict = check_wrapper(bundle)
    assert (verdict.passed, reason in verdict.reason) == (False, True), verdict.reason
    assert file_hashes(bundle)[FILES_HASH] != before[FILES_HASH]


def test_planted_code_is_neither_promoted_nor_rolled_back_to(trained, lenient, client):
    run = trained()
    code = wrapper(stored_bundle(client, run)) / "pyfunc_model.py"
    own = code.read_text()
    plant_line(code.parent)
    assert set(reasons(promote(run.run_id))) == {"MLflow's wrapper"}
    code.write_text(own)
    assert promote(run.run_id).promoted
    uri = f"models:/{MODEL_NAME}@production"
    mlflow.pyfunc.load_model(uri)  # which leaves files of its own there
    verify(client, "1")
    plant_pickle(code.parent)
    with pytest.raises(
        CheckpointError, match=r"not those that were registered; got files\.sha256"
    ):
        verify(client, "1")
    assert not Path("planted").exists()


def test_code_compiled_in_a_local_store_is_removed_before_it_is_run(
    trained, lenient, client, monkeypatch
):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    run = trained()
    assert promote(run.run_id).promoted
    mlflow.pyfunc.load_model(f"models:/{MODEL_NAME}@production")
    compiled = wrapper(stored_bundle(client, run)) / "__pycache__"
    assert compiled.is_dir()
    verify(client, "1")
    assert not compiled.exists()


def test_version_that_mlflows_own_page_registered_is_left_alone(trained, lenient, client):
    """Its button `Register model` notes no hashes, so nothing can be said about its files."""
    run = trained()
    mlflow.register_model(model_uri(client.get_run(run.run_id)), MODEL_NAME)
    assert promote(run.run_id).promoted
    assert client.get_model_version_by_alias(MODEL_NAME, "production").version == 2
    assert "qualified" not in client.get_model_version(MODEL_NAME, "1").tags
