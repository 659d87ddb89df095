"""Promotion in a real registry, and prediction from it."""

import json

import mlflow
import numpy as np
import pandas as pd
import pytest

from deconv.errors import CheckpointError, ConfigError
from deconv.evaluate import draw_mixtures
from deconv.store import write_h5ad
from experiments.launch import train_and_report
from experiments.predict import load_model, open_model, predict_files
from experiments.registry import MODEL_NAME, best_sparse_run, fetch_model, promote

PRODUCTION = f"models:/{MODEL_NAME}@production"


@pytest.fixture
def trained(store, small_config, atlas_file):
    def train(*overrides):
        return train_and_report(str(small_config()), data=str(atlas_file), overrides=overrides)

    return train


@pytest.fixture
def lenient(monkeypatch):
    """The small run is too short for the loss to fall; the other gates stay."""
    from experiments import registry

    gates = {k: v for k, v in registry.load_gates().items() if k != "val/loss_trend"}
    monkeypatch.setattr(registry, "load_gates", lambda: gates)


@pytest.fixture
def samples(unseen, tmp_path):
    mixtures = draw_mixtures(unseen, 12)
    write_h5ad(mixtures, tmp_path / "samples.h5ad")
    return tmp_path / "samples.h5ad", mixtures


def test_good_sparse_run_becomes_production_and_predicts(trained, lenient, samples, deconv, store):
    result = trained()
    decision = promote(result.run_id)
    assert decision.promoted, decision.verdicts
    path, mixtures = samples
    status, output, _ = deconv("predict", path, "--model", PRODUCTION, "-o", store / "out.csv")
    assert status == 0
    assert "12 sample(s), 400 of the model's 400 regions" in output
    table = pd.read_csv(store / "out.csv")
    wide = table.pivot(index="sample", columns="tissue", values="proportion")
    truth = mixtures.proportions
    assert np.abs(wide.loc[truth.index, truth.columns] - truth).to_numpy().mean() < 0.02
    assert set(table["call"]) == {"detected", "not detected"}
    assert (store / "out.png").stat().st_size > 10_000


def test_report_names_the_version_and_the_run(trained, lenient, samples, deconv, store):
    result = trained()
    promote(result.run_id)
    assert deconv("predict", samples[0], "--model", PRODUCTION, "-o", store / "out")[0] == 0
    facts = json.loads((store / "out" / "predictions.json").read_text())["model"]
    assert facts["model version"] == "1"
    assert facts["MLflow run id"] == result.run_id
    page = (store / "out" / "samples" / "mixture-0.html").read_text()
    for part in (PRODUCTION, result.run_id, result.folder.name, "For research use only"):
        assert part in page
    status, output, _ = deconv("check", samples[0], "--model", PRODUCTION)
    assert (status, "mixture-0" in output) == (0, True)


def test_mlflow_itself_loads_the_model_and_agrees(trained, lenient, samples):
    promote(trained().run_id)
    _, mixtures = samples
    loaded = mlflow.pyfunc.load_model(PRODUCTION)
    inputs = {"methylated": mixtures.methylated, "coverage": mixtures.coverage}
    found = loaded.predict({k: v.astype(np.int64) for k, v in inputs.items()})
    expected = predict_files([samples[0]], open_model(PRODUCTION)).table
    np.testing.assert_allclose(found["proportion"], expected["proportion"], atol=1e-7)
    assert found["call"].tolist() == expected["call"].tolist()
    inputs["coverage"][:, ::2] = inputs["methylated"][:, ::2] = 0
    inputs["coverage"][:, 40:] = inputs["methylated"][:, 40:] = 0
    sparse = loaded.predict({k: v.astype(np.int64) for k, v in inputs.items()})
    hidden = sparse["call"] == "not assessable"
    assert hidden.any()
    assert (sparse["proportion"].isna() == hidden).all()
    folder = fetch_model(PRODUCTION)
    assert not list(folder.rglob("*.pkl"))


def test_better_model_replaces_production_and_worse_does_not(trained, lenient, client):
    first = trained("training.num_epochs=1")
    assert promote(first.run_id).promoted
    other = trained("training.num_epochs=4", "training.learning_rate=0.001")
    better = other.metrics["test/mae"] < first.metrics["test/mae"]
    decision = promote(other.run_id)
    assert decision.promoted is better
    version = client.get_model_version_by_alias(MODEL_NAME, "production")
    assert version.run_id == (other if better else first).run_id
    worse = trained("training.num_epochs=1", "model.atlas_start=false")
    refused = promote(worse.run_id)
    assert not refused.promoted
    assert "better than production" in [v.rule for v in refused.verdicts if not v.passed]
    assert client.get_model_version_by_alias(MODEL_NAME, "production").run_id == version.run_id


def test_replaced_version_is_kept_as_previous(trained, lenient, client):
    first, second = trained("training.num_epochs=1"), trained("training.num_epochs=2")
    worse, better = sorted((first, second), key=lambda r: -r.metrics["test/mae"])
    assert worse.metrics["test/mae"] != better.metrics["test/mae"]
    assert promote(worse.run_id).promoted
    assert promote(better.run_id).promoted
    aliases = {
        alias: client.get_model_version_by_alias(MODEL_NAME, alias).run_id
        for alias in ("production", "previous")
    }
    assert aliases == {"production": better.run_id, "previous": worse.run_id}
    assert promote(better.run_id).promoted  # again: nothing changes
    assert client.get_model_version_by_alias(MODEL_NAME, "previous").run_id == worse.run_id


def test_single_stage_model_is_not_registered(trained, client):
    result = trained("model.use_two_stage=false")
    decision = promote(result.run_id)
    assert not decision.promoted
    assert decision.version is None
    assert not client.search_registered_models()


def test_refusal_says_why_and_exits_with_1(trained, deconv, client):
    result = trained("model.atlas_start=false")
    status, output, _ = deconv("promote", result.folder)
    assert status == 1
    assert "not promoted" in output
    assert "fail" in output
    with pytest.raises(ConfigError, match=r"cannot fetch the model.*see deconv promote"):
        fetch_model(PRODUCTION)


def test_model_without_a_test_is_registered_but_not_promoted(trained, client):
    decision = promote(trained("data.test_donors=0").run_id)
    assert not decision.promoted
    assert decision.version == "1"
    reasons = {v.rule: v.reason for v in decision.verdicts}
    assert reasons["test/mae"] == "not measured, at most 0.05 needed"
    assert "production" not in client.get_registered_model(MODEL_NAME).aliases


def test_best_of_the_runs_is_found(trained, lenient, deconv):
    runs = [trained("training.num_epochs=1"), trained("training.num_epochs=2")]
    trained("model.use_two_stage=false")
    best = min(runs, key=lambda r: r.metrics["best/val/mae"])
    assert best_sparse_run("sparse-deconvolution") == best.run_id
    status, output, _ = deconv("promote")
    assert status == 0
    assert best.run_id in output


def test_unfinished_or_unknown_run_is_refused(store, client):
    with pytest.raises(ConfigError, match="no such run"):
        promote("0" * 32)
    run = client.create_run("0")
    with pytest.raises(ConfigError, match="no finished model; got RUNNING"):
        promote(run.info.run_id)


def test_tampered_registry_model_is_refused(trained, lenient):
    promote(trained().run_id)
    folder = fetch_model(PRODUCTION)
    weights = next(store for store in folder.rglob("weights.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: the file is not what"):
        load_model(str(folder))
