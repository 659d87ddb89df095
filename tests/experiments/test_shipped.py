"""What becomes production is what was judged, whatever a run's tags, files and metrics say."""

import shutil
import sqlite3

import pytest
import torch
from ports import free_port

from deconv.bundle import write_bundle
from experiments.benchmark_file import write_benchmark
from experiments.config import load_config
from experiments.fetch import fetch_model
from experiments.names import MODEL_NAME
from experiments.predict import load_model
from experiments.promotion import promote
from experiments.referee import read_benchmark
from experiments.registry import model_uri
from experiments.replay import MODEL_TAG

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
    assert "production" not in client.get_registered_model(MODEL_NAME).aliases


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
    assert set(reasons(promote(run.run_id))) == {OWN}
    assert "production" not in client.get_registered_model(MODEL_NAME).aliases


def test_metrics_logged_anew_do_not_count(trained, lenient, client):
    run = trained("model.atlas_start=false")
    for name in ("test/mae", "best/val/mae"):
        client.log_metric(run.run_id, name, 0.001, step=99)
    found = reasons(promote(run.run_id))
    assert found[OWN] == "the model states another value of best/val/mae, test/mae"
    assert {"test/mae", "best/val/mae"} <= set(found)  # judged by what they were


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
    assert load_model(f"models:/{MODEL_NAME}@production").provenance["run_id"] is None


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
