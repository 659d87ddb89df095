"""`deconv runs show` and `deconv runs reproduce`."""

import json
import shutil
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from deconv.store import write_h5ad
from experiments.ancestry import origin_of
from experiments.launch import train_and_report
from experiments.promotion import promote
from experiments.provenance import code_diff
from experiments.reproduce import compare_logs, compare_metrics


@pytest.fixture
def finished(four_runs, tmp_path, monkeypatch, atlas_file):
    """A finished run in a store that a test may change."""
    folder, found = four_runs
    shutil.copy(folder / "mlflow.db", tmp_path)
    use_store(tmp_path, monkeypatch)
    return replace(found["reference"], folder=folder / found["reference"].folder)


def use_store(folder, monkeypatch):
    monkeypatch.chdir(folder)
    mlflow.set_tracking_uri(None)


def shown(deconv, run):
    status, output, error = deconv("runs", "show", run, "--json")
    assert (status, error) == (0, "")
    return json.loads(output)


def test_lineage_of_a_run_and_of_what_was_trained_from_it(
    finished, small_config, deconv, pure, atlas_file, monkeypatch
):
    version = promote(finished.run_id).version
    checkpoint = finished.folder / "checkpoint_best.pt"
    monkeypatch.setenv("MLFLOW_PARENT_RUN_ID", finished.run_id)
    child = train_and_report(
        str(small_config(training={"num_epochs": 1})), data=str(atlas_file), device="cpu",
        overrides=[f"model.pretrained_checkpoint={checkpoint}"],
    )  # fmt: skip
    deconv("--version")  # drops what training printed

    lineage = shown(deconv, finished.run_id)
    assert lineage["run"]["name"] == finished.folder.name
    assert lineage["run"]["experiment"] == "sparse-deconvolution"
    assert lineage["data"]["all pure samples"]["sha256"] == pure.content_hash
    assert set(lineage["data"]) == {"train", "validation", "test", "all pure samples", "atlas"}
    assert lineage["data"]["test"]["samples"] == 80
    assert len(lineage["code"]["commit"]) == 40
    assert (lineage["code"]["diff"] is None) == (code_diff() == "")
    assert lineage["environment"]["all packages"].endswith("environment.txt")
    assert {"torch", "python", "threads", "device"} <= set(lineage["environment"])
    assert lineage["configuration"]["loss.presence_weight"] == "1.0"
    assert lineage["results"]["test/mae"] == finished.metrics["test/mae"]
    (model,) = lineage["models"]
    assert model["epoch"] == finished.metrics["best/epoch"]
    aliases = MlflowClient().get_registered_model("sparse-deconvolution").aliases
    assert lineage["registered"] == [
        {
            "model": "sparse-deconvolution", "version": version, "aliases": list(aliases),
            "uri": f"models:/sparse-deconvolution/{version}",
        }
    ]  # fmt: skip

    parents = shown(deconv, child.folder)["parents"]
    assert parents == {
        "shown under": finished.run_id,
        "weights from": str(checkpoint),
        "weights of run": finished.run_id,
    }
    status, output, _ = deconv("runs", "show", finished.folder)
    assert status == 0
    assert f"version {version} of sparse-deconvolution" in output
    assert "deconv predict FILES --model" in output
    assert f"{100 * finished.metrics['test/mae']:.3f} %" in output


def test_weights_lead_to_their_run_by_folder_version_and_alias(finished):
    version, client = promote(finished.run_id).version, MlflowClient()
    client.set_registered_model_alias("sparse-deconvolution", "chosen", version)
    for source, expected in (
        (str(finished.folder / "checkpoint_best.pt"), finished.run_id),
        (f"models:/sparse-deconvolution/{version}", finished.run_id),
        ("models:/sparse-deconvolution@chosen", f"{finished.run_id} (today)"),
        ("models:/sparse-deconvolution/99", None),
        ("gone/checkpoint_best.pt", None),
        (None, None),
    ):
        assert origin_of(client, source) == expected


def test_run_is_reproduced_to_the_last_bit(tmp_path, finished, deconv):
    status, output, _ = deconv("runs", "reproduce", finished.run_id, "-o", tmp_path / "again")
    assert status == 0, output
    assert "has to be equal to the last bit" in output
    assert "reproduced: every metric and point of the curves is equal to the last bit" in output
    (again,) = (tmp_path / "again").glob("reference-*/test_results.json")
    assert json.loads(again.read_text())["metrics"] == finished.metrics


def test_a_result_that_is_not_the_same_is_found(tmp_path, finished, deconv):
    other = 1e-15 + finished.metrics["test/mae"]
    MlflowClient().log_metric(finished.run_id, "test/mae", other, step=99)
    status, output, _ = deconv("runs", "reproduce", finished.folder, "-o", tmp_path / "again")
    assert status == 1
    assert "not reproduced: 1 values are not equal to the last bit" in output
    assert "test/mae" in output


def test_conditions_are_checked_before_anything_is_trained(
    tmp_path, finished, deconv, pure, atlas_file
):
    def check(*arguments):
        status, output, error = deconv(
            "runs", "reproduce", finished.run_id, "--check-only", *arguments
        )
        assert not (tmp_path / "reproduced").exists()
        return status, output, error

    status, output, _ = check("--strict")
    assert status == 0
    assert "equal to the last bit" in output

    client = MlflowClient()
    client.set_tag(finished.run_id, "git.commit", "f" * 40)
    client.set_tag(finished.run_id, "version.torch", "1.0")
    status, output, _ = check()
    assert status == 0
    assert output.count("differs") == 2
    assert "within 2% or 0.001 of what was logged" in output
    status, _, error = check("--strict")
    assert status == 2
    assert "not the conditions of the run; got git.commit, version.torch" in error

    changed = pure.methylated.copy()
    changed[0, 0] = 0 if changed[0, 0] else pure.coverage[0, 0]
    write_h5ad(replace(pure, methylated=changed), tmp_path / "other.h5ad")
    status, _, error = check("--data", tmp_path / "other.h5ad")
    assert status == 2
    assert "other.h5ad: these are not the run's data: the result cannot be the same; got" in error
    moved = shutil.copy(atlas_file, tmp_path / "moved.h5ad")
    assert check("--data", moved)[0] == 0


def test_what_cannot_be_repeated_is_refused(finished, deconv):
    MlflowClient().set_terminated(finished.run_id, "KILLED")
    status, _, error = deconv("runs", "reproduce", finished.run_id)
    assert status == 2
    assert "the run is not finished" in error
    assert deconv("runs", "show", "nowhere")[0] == 2


def test_agreement_to_the_last_bit_or_within_a_tolerance():
    logged, found = {"mae": 0.1, "f1": 0.9, "best/epoch": 3.0}, {"mae": 0.1, "f1": 0.9}
    assert compare_metrics(logged, found, exact=True) == []
    near = {"mae": np.nextafter(0.1, 1), "f1": 0.91, "best/epoch": 2.0}
    assert {d.name for d in compare_metrics(logged, near, exact=True)} == set(near)
    assert compare_metrics(logged, near, exact=False) == []
    assert [d.name for d in compare_metrics(logged, {"f1": 0.5, "new": 1.0}, exact=False)] == [
        "f1", "new",
    ]  # fmt: skip


def test_curves_are_compared_point_by_point():
    log = pd.DataFrame({"epoch": [1, 2], "loss": [1.0, 0.5], "val/mae": [np.nan, 0.1]})
    assert compare_logs(log, log.copy(), exact=True) == []
    other = log.assign(loss=[1.0, 0.6])
    assert [d.name for d in compare_logs(log, other, exact=False)] == ["loss, epoch 2"]
    assert [d.found for d in compare_logs(log, log.head(1), exact=True)] == [None, None]
