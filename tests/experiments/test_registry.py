"""Promotion in a real registry, and prediction from it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from deconv.bundle import write_bundle
from deconv.errors import CheckpointError, ConfigError
from deconv.evaluate import draw_mixtures
from deconv.store import write_h5ad
from experiments import promotion, registry
from experiments.fetch import fetch_model, open_registered
from experiments.gates import Policy
from experiments.names import BOOK, MODEL_NAME
from experiments.predict import load_model, open_model, predict_files
from experiments.promotion import promote, rollback
from experiments.referee import read_benchmark
from experiments.registry import model_uri, sparse_runs

PRODUCTION = f"models:/{MODEL_NAME}@production"


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
    params = {"build": mixtures.regions.build}
    found = loaded.predict({k: v.astype(float) for k, v in inputs.items()}, params)
    expected = predict_files([samples[0]], open_model(PRODUCTION)).table
    np.testing.assert_allclose(found["proportion"], expected["proportion"], atol=1e-7)
    assert found["call"].tolist() == expected["call"].tolist()
    inputs["coverage"][:, ::2] = inputs["methylated"][:, ::2] = 0
    inputs["coverage"][:, 40:] = inputs["methylated"][:, 40:] = 0
    sparse = loaded.predict({k: v.astype(float) for k, v in inputs.items()}, params)
    hidden = sparse["call"] == "not assessable"
    assert hidden.any()
    assert (sparse["proportion"].isna() == hidden).all()
    folder = fetch_model(PRODUCTION)
    assert not list(folder.rglob("*.pkl"))


def worse_and_better(trained):
    """A network that starts from chance, and one that starts from the atlas."""
    worse = trained("training.num_epochs=6", "model.atlas_start=false", "data.test_mixtures=200")
    return worse, trained("training.num_epochs=2", "data.test_mixtures=200")


def aliases(client):
    return {k: str(v) for k, v in client.get_registered_model(MODEL_NAME).aliases.items()}


@pytest.fixture
def bare(lenient, monkeypatch):
    """A policy without absolute limits: any sparse model may be the first champion."""
    content = lenient.model_dump()
    content["metrics"] = {"test/mae": {"max": 0.5}}
    found = Policy.model_validate(content)
    monkeypatch.setattr(promotion, "load_policy", lambda path=None: found)
    return found


def test_better_model_replaces_production_and_back_and_forth(trained, bare, client, deconv):
    worse, better = worse_and_better(trained)
    assert promote(worse.run_id).promoted
    decision = promote(better.run_id, why="from the atlas")
    assert decision.promoted, decision.verdicts
    assert decision.replaced == "1"

    assert aliases(client) == {"production": "2", "previous": "1"}
    refused = promote(worse.run_id)
    assert not refused.promoted
    failed = {v.rule for v in refused.verdicts if not v.passed}
    assert failed == {"better than production", "no tissue much worse"}
    assert promote(better.run_id).promoted  # again: nothing changes
    assert aliases(client) == {"production": "2", "previous": "1"}

    assert rollback(why="a complaint") == ("1", "2")
    assert aliases(client) == {"production": "1", "previous": "2"}
    status, output, _ = deconv("rollback")
    assert status == 0
    assert "production is version 2 now, previous is 1" in output

    status, output, _ = deconv("models", "--json")
    told = json.loads(output)
    assert [m["aliases"] for m in told["versions"]] == [["production"], ["previous"]]
    assert told["versions"][0]["why"] == "from the atlas"
    assert "better than production" in told["versions"][1]["refused"]
    steps = [(m["from_version"], m["to_version"], m["stage"]) for m in told["moves"]]
    assert steps == [("1", "2", "done"), ("2", "1", "done"), ("1", "2", "done"),
                     ("none", "1", "done")]  # fmt: skip
    assert "a complaint" in [m["why"] for m in told["moves"]]
    status, output, _ = deconv("models")
    assert status == 0
    assert "moves of production" in output


def test_dry_run_decides_and_changes_nothing(trained, lenient, client, deconv):
    run = trained()
    status, output, _ = deconv("promote", run.folder, "--dry-run")
    assert status == 0, output
    assert "would be promoted" in output
    assert not client.search_registered_models()


def test_models_tested_on_other_mixtures_are_not_compared(trained, lenient):
    assert promote(trained().run_id).promoted
    other = promote(trained("data.test_mixtures=90").run_id)
    assert not other.promoted
    (failed,) = [v for v in other.verdicts if not v.passed]
    assert "production was tested on other mixtures" in failed.reason
    assert "--benchmark FILE" in failed.reason


def test_benchmark_decides_between_runs_of_other_tests_and_finds_leakage(
    trained, bare, deconv, tmp_path
):
    worse, better = worse_and_better(trained)
    leaky = trained("random_seed=5", "data.test_mixtures=50")
    assert deconv("freeze", better.folder, "-o", "bench.h5ad")[0] == 0
    frozen = read_benchmark(tmp_path / "bench.h5ad")
    assert len(frozen) == 200
    assert promote(worse.run_id, benchmark=frozen).promoted
    refused = promote(leaky.run_id, benchmark=frozen)
    reasons = {v.rule: v.reason for v in refused.verdicts if not v.passed}
    assert "donors of the test were trained on" in reasons["donors"]
    decision = promote(better.run_id, benchmark=frozen)
    assert decision.promoted, decision.verdicts


def test_a_benchmark_too_small_decides_nothing_and_what_decided_is_on_record(
    trained, lenient, client, deconv, tmp_path
):
    run = trained()
    few = read_benchmark(frozen(deconv, trained("data.test_mixtures=2"), tmp_path))
    refused = promote(run.run_id, benchmark=few)
    reasons = {v.rule: v.reason for v in refused.verdicts if not v.passed}
    assert reasons["samples"].startswith("2 samples (")
    enough = read_benchmark(frozen(deconv, trained("data.test_mixtures=60"), tmp_path))
    assert promote(run.run_id, benchmark=enough).promoted
    version = client.get_model_version(MODEL_NAME, "1")
    assert version.tags["judged.samples"] == "60"
    assert version.tags["judged.sha256"] == enough.content_hash[:16]
    assert version.tags["judged.champion"] == "none"
    assert float(version.tags["test/mae"]) != pytest.approx(run.metrics["test/mae"], rel=1e-4)
    told = f"Judged on 60 samples ({enough.content_hash[:16]}); champion: none"
    assert told in version.description
    ticket = client.get_model_version(BOOK, "2")
    assert ticket.tags["judged.sha256"] == enough.content_hash[:16]


def frozen(deconv, run, folder):
    """The test mixtures of a run as a benchmark file."""
    path = folder / f"{run.folder.name}.h5ad"
    assert deconv("freeze", run.folder, "-o", path)[0] == 0
    return path


def test_version_that_no_longer_meets_the_rules_is_not_rolled_back_to(
    trained, bare, client, deconv, tmp_path
):
    worse, better = worse_and_better(trained)
    assert promote(worse.run_id).promoted
    assert promote(better.run_id).promoted
    few = read_benchmark(frozen(deconv, trained("data.test_mixtures=2"), tmp_path))
    assert not promote(worse.run_id, benchmark=few).promoted  # which says nothing of the model
    assert rollback() == ("1", "2")
    assert rollback() == ("2", "1")
    strict = bare.model_dump()
    strict["metrics"]["test/mae"]["max"] = 0.001
    assert not promote(worse.run_id, policy=Policy.model_validate(strict)).promoted
    with pytest.raises(ConfigError, match="the version has not met the rules"):
        rollback()
    assert aliases(client)["production"] == "2"


def test_record_that_is_not_the_models_own_is_refused(trained, lenient, client):
    run = trained()
    folder = Path(client.get_run(run.run_id).info.artifact_uri.removeprefix("file://"))
    stats = pd.read_csv(folder / "summary_stats.csv")
    stats["predicted_proportion"] = stats["true_proportion"]
    stats.to_csv(folder / "summary_stats.csv", index=False)
    decision = promote(run.run_id)
    reasons = {v.rule: v.reason for v in decision.verdicts if not v.passed}
    assert "not of the model whose metrics were logged" in reasons["test"]


def test_uncommitted_code_is_refused_unless_allowed(trained, lenient, client, monkeypatch):
    content = lenient.model_dump()
    content["lineage"]["allow_changed_code"] = False
    strict = Policy.model_validate(content)
    run = trained()
    for name, value in (("git.commit", "a" * 40), ("git.dirty", "true")):
        client.set_tag(run.run_id, name, value)
    decision = promote(run.run_id, policy=strict)
    assert [v.rule for v in decision.verdicts if not v.passed] == ["lineage"]
    assert promote(run.run_id, policy=strict, allow_changed_code=True).promoted


def test_nothing_to_roll_back_to(trained, lenient, store):
    with pytest.raises(ConfigError, match="there is no production model"):
        rollback()
    assert promote(trained().run_id).promoted
    with pytest.raises(ConfigError, match=r"nothing to roll back to.*previous None"):
        rollback()


def test_interrupted_move_is_finished_by_the_next(trained, bare, client):
    """As after a kill between the two aliases of a move."""
    worse, better = worse_and_better(trained)
    assert promote(worse.run_id).promoted
    assert promote(better.run_id).promoted
    client.delete_registered_model_alias(MODEL_NAME, "previous")
    last = max(client.search_model_versions(f"name='{BOOK}'"), key=lambda v: int(v.version))
    client.set_model_version_tag(BOOK, last.version, "stage", "moving")
    assert rollback() == ("1", "2")


def test_damaged_previous_version_does_not_come_back(trained, bare, client):
    worse, better = worse_and_better(trained)
    assert promote(worse.run_id).promoted
    assert promote(better.run_id).promoted
    for weights in Path.cwd().rglob("weights.safetensors"):
        if "runs" in weights.relative_to(Path.cwd()).parts:
            continue
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: the file is not what"):
        rollback()
    assert aliases(client)["production"] == "2"


def test_single_stage_model_is_not_registered(trained, client):
    result = trained("model.use_two_stage=false")
    decision = promote(result.run_id)
    assert not decision.promoted
    assert decision.version is None
    (ticket,) = client.search_model_versions()  # that it was refused is on record
    assert ticket.name == BOOK
    assert ticket.description.startswith("refused: sparse: a single-stage model (small-")


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
    assert "not tested on donors held out" in reasons["test"]
    assert "production" not in client.get_registered_model(MODEL_NAME).aliases


def test_best_of_the_runs_is_found(trained, lenient, deconv):
    runs = [trained("training.num_epochs=1"), trained("training.num_epochs=2")]
    trained("model.use_two_stage=false")
    best = min(runs, key=lambda r: r.metrics["best/val/mae"])
    assert sparse_runs("sparse-deconvolution")[0] == best.run_id
    with pytest.raises(ConfigError, match="study none: no finished sparse run"):
        sparse_runs("sparse-deconvolution", "none")
    status, output, _ = deconv("promote")
    assert status == 0
    assert best.run_id in output


def test_what_was_rolled_back_is_promoted_again_only_by_name(trained, bare, client, deconv):
    worse, better = worse_and_better(trained)
    assert promote(worse.run_id).promoted
    assert promote(better.run_id).promoted
    assert rollback(why="a complaint") == ("1", "2")
    status, output, _ = deconv("promote", "--dry-run")
    assert "version 2 was rolled back (a complaint): name its run to promote it" in output
    assert "would be promoted" not in output
    status, output, _ = deconv("promote")
    assert status == 0, output  # the next best is production already
    assert "refused: not rolled back: version 2 was rolled back (a complaint)" in output
    assert aliases(client) == {"production": "1", "previous": "2"}
    assert deconv("promote", better.run_id)[0] == 0
    assert aliases(client) == {"production": "2", "previous": "1"}
    assert deconv("promote")[0] == 0
    assert aliases(client) == {"production": "2", "previous": "1"}


def test_next_run_is_tried_where_the_best_is_damaged(trained, lenient, client, deconv):
    runs = [trained("training.num_epochs=1"), trained("training.num_epochs=2")]
    best, second = sorted(runs, key=lambda r: r.metrics["best/val/mae"])
    weights = fetch_model(model_uri(client.get_run(best.run_id))) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    status, output, error = deconv("promote")
    assert (status, error.count("Error")) == (0, 0), output + error
    assert f"run {best.run_id}: " in output
    assert "weights.safetensors: the file is not what" in output
    assert client.get_model_version_by_alias(MODEL_NAME, "production").run_id == second.run_id
    status, _, error = deconv("promote", best.run_id)
    assert (status, "the file is not what" in error) == (2, True)


def test_all_runs_are_tried(trained, lenient, client, deconv, monkeypatch):
    """Also behind many that are refused, and over several pages of the store's answer."""
    monkeypatch.setattr(registry, "_PAGE", 4)
    good = trained()
    tags = client.get_run(good.run_id).data.tags
    for number in range(11):
        own = {k: v for k, v in tags.items() if not k.startswith("mlflow.")}
        run = client.create_run(client.get_run(good.run_id).info.experiment_id, tags=own)
        client.log_param(run.info.run_id, "model.use_two_stage", "True")
        client.log_metric(run.info.run_id, "best/val/mae", 1e-6 * number)
        client.set_terminated(run.info.run_id)
    assert len(sparse_runs("sparse-deconvolution")) == 12
    status, output, _ = deconv("promote", "--dry-run")
    assert (status, output.count("refused: the run's own model")) == (0, 11)
    assert f"would be promoted: run {good.run_id}" in output


def test_experiment_that_is_not_there_is_said_in_one_line(store, deconv):
    code = "from deconv.cli import main; import sys; sys.exit(main(['promote']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: experiment sparse-deconvolution: no finished sparse run"
    ]


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


def test_model_changed_after_it_was_registered_is_refused_though_its_own_hashes_agree(
    trained, lenient, samples, deconv
):
    """By somebody who may write to the run's files, but not to the registry."""
    promote(trained().run_id)
    folder = next(p.parent for p in Path.cwd().glob("mlruns/**/bundle/manifest.json"))
    bundle = load_model(str(folder))
    shutil.rmtree(folder)
    with torch.no_grad():
        bundle.network.proportion_head.bias += 1
    write_bundle(folder, bundle)
    load_model(str(folder))
    with pytest.raises(CheckpointError, match="not those that were registered"):
        load_model(PRODUCTION)
    status, _, error = deconv("predict", samples[0], "--model", PRODUCTION, "-o", "out.csv")
    assert (status, "not those that were registered" in error) == (2, True)
    assert not Path("out.csv").exists()


def test_code_changed_after_it_was_registered_is_refused(trained, lenient):
    """Only MLflow's own scoring server would run it."""
    promote(trained().run_id)
    code = next(Path.cwd().glob("mlruns/**/artifacts/pyfunc_model.py"))
    code.write_text(code.read_text() + "print('planted')\n")
    with pytest.raises(CheckpointError, match=r"not those that were registered; got code\.sha256"):
        open_registered(MODEL_NAME, "1")


def test_tags_that_are_not_the_models_own_are_refused(trained, lenient, client):
    run = trained()
    client.set_tag(run.run_id, "data.sha256", "a" * 64)
    decision = promote(run.run_id)
    reasons = {v.rule: v.reason for v in decision.verdicts if not v.passed}
    assert reasons == {"lineage": "data.sha256 of the run are not the model's"}
