"""A training run, tracked in a real MLflow store."""

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from deconv.bundle import read_bundle
from deconv.checkpoint import load_checkpoint
from experiments.launch import train_and_report
from experiments.run import BEST, LAST

CURVES = {
    "train/loss", "train/mae", "train/presence_accuracy", "train/sparsity_loss",
    "train/presence_loss", "train/mse_loss", "train/learning_rate", "train/gradient_norm",
    "val/loss", "val/mae", "val/presence_accuracy", "val/presence_balanced_accuracy",
    "val/presence_precision", "val/presence_recall", "val/presence_f1", "val/presence_auroc",
    "val/presence_auprc", "val/sparsity_loss", "val/presence_loss", "val/mse_loss",
    "val/spurious_mass", "val/spurious_rate", "val/prediction_ratio", "val/exact_support",
    "val/mse", "val/rmse",
}  # fmt: skip
FIGURES = {
    "miami.png", "miami.html", "predicted_against_true.png", "error_per_tissue.png",
    "error_by_n_tissues.png", "reliability.png",
}  # fmt: skip


def artifacts(client, run_id, path=""):
    found = []
    for item in client.list_artifacts(run_id, path):
        found += artifacts(client, run_id, item.path) if item.is_dir else [item.path]
    return found


def test_run_has_all_that_is_needed_to_understand_and_repeat_it(
    store, client, small_config, atlas_file, pure
):
    result = train_and_report(str(small_config()), data=str(atlas_file))
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["loss.presence_weight"] == "1.0"
    assert run.data.params["data.path"] == str(atlas_file)
    tags = run.data.tags
    assert tags["data.sha256"] == pure.content_hash
    assert tags["sparse"] == "true"
    assert len(tags["git.commit"]) == 40
    assert tags["git.dirty"] in ("true", "false")
    assert {"host", "version.torch", "version.python", "atlas.sha256"} <= set(tags)
    datasets = {d.dataset.name: d for d in run.inputs.dataset_inputs}
    assert set(datasets) == {"train", "validation", "test"}
    assert datasets["train"].tags[0].value == "train"

    histories = {name: client.get_metric_history(result.run_id, name) for name in CURVES}
    for name, points in histories.items():
        assert [p.step for p in points] == [1, 2, 3], name
    for name in ("test/mae", "test/nnls/mae", "test/weighted_nnls/spurious_mass", "val/nnls/mae"):
        assert len(client.get_metric_history(result.run_id, name)) == 1

    files = set(artifacts(client, result.run_id))
    assert {f"figures/{name}" for name in FIGURES} <= files
    assert {
        "config.yaml", BEST, LAST, "training_log.csv", "test_results.json", "summary_stats.csv",
    } <= files  # fmt: skip


def test_files_of_a_run_agree_with_its_metrics(store, small_config, atlas_file):
    result = train_and_report(str(small_config()), data=str(atlas_file))
    log = pd.read_csv(result.folder / "training_log.csv")
    assert log["epoch"].tolist() == [1, 2, 3]
    best = int(log.loc[log["val/mae"].idxmin(), "epoch"])
    checkpoint = load_checkpoint(result.folder / BEST)
    assert checkpoint.epoch == best == result.metrics["best/epoch"]
    assert result.metrics["best/val/mae"] == pytest.approx(log["val/mae"].min())
    assert load_checkpoint(result.folder / LAST).epoch == 3
    results = json.loads((result.folder / "test_results.json").read_text())
    assert results["metrics"] == result.metrics
    stats = pd.read_csv(result.folder / "summary_stats.csv")
    assert len(stats) == 80 * 6
    error = (stats["true_proportion"] - stats["predicted_proportion"]).abs().mean()
    assert error == pytest.approx(result.metrics["test/mae"], rel=1e-6)
    bundle = read_bundle(result.folder / "bundle")
    assert bundle.provenance["run_id"] == result.run_id


def test_same_configuration_gives_the_same_result(store, small_config, atlas_file):
    first, second = (
        train_and_report(str(small_config()), data=str(atlas_file)).metrics for _ in range(2)
    )
    assert first == second


def test_standard_variables_of_mlflow_are_honoured(
    store, small_config, atlas_file, monkeypatch, empty_store
):
    import shutil

    from mlflow.tracking import MlflowClient

    elsewhere = store / "elsewhere.db"
    shutil.copy(empty_store, elsewhere)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    result = train_and_report(str(small_config()), data=str(atlas_file))
    client = MlflowClient(f"sqlite:///{elsewhere}")
    run = client.get_run(result.run_id)
    assert client.get_experiment(run.info.experiment_id).name == "ours"


def test_single_stage_and_random_start_train_for_comparison(store, small_config, atlas_file):
    single = train_and_report(
        str(small_config(model={"use_two_stage": False})), data=str(atlas_file)
    )
    assert "val/presence_loss" not in single.metrics
    assert not (single.folder / "figures" / "reliability.png").exists()
    random = train_and_report(
        str(small_config(model={"atlas_start": False})), data=str(atlas_file)
    )
    assert random.metrics["test/mae"] > single.metrics["test/mae"]


def test_tensorboard_events_are_written_on_request(store, small_config, atlas_file):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = small_config(output={"tensorboard": True})
    result = train_and_report(str(config), data=str(atlas_file))
    events = EventAccumulator(str(result.folder / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("val/mae")] == [1, 2, 3]


def test_curriculum_starts_from_a_checkpoint_or_a_registry_model(
    store, small_config, atlas_file, deconv
):
    phase1 = train_and_report(str(small_config()), data=str(atlas_file))
    assert deconv("promote", phase1.run_id)[0] in (0, 1)  # registered in any case
    rate = {"learning_rate": 1e-12, "num_epochs": 1}
    for source in (str(phase1.folder / BEST), "models:/sparse-deconvolution/1"):
        config = small_config(model={"pretrained_checkpoint": source}, training=rate)
        phase2 = train_and_report(str(config), data=str(atlas_file))
        assert phase2.metrics["best/val/mae"] == pytest.approx(
            phase1.metrics["best/val/mae"], rel=1e-4
        )


def test_store_that_is_away_delays_metrics_and_loses_none(
    store, small_config, atlas_file, monkeypatch, client
):
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    send, attempts = MlflowClient.log_batch, []

    def away(self, run_id, metrics=(), params=(), tags=(), synchronous=None):
        if metrics and len(attempts) < 2:
            attempts.append(1)
            raise MlflowException("connection refused")
        return send(self, run_id, metrics=metrics, params=params, tags=tags)

    monkeypatch.setattr(MlflowClient, "log_batch", away)
    result = train_and_report(str(small_config()), data=str(atlas_file))
    assert len(attempts) == 2
    points = client.get_metric_history(result.run_id, "val/mae")
    assert [p.step for p in points] == [1, 2, 3]


TRAIN = """
import sys
from torch._dynamo.utils import counters
from experiments.launch import train_and_report
result = train_and_report(sys.argv[1], data=sys.argv[2])
print(counters["stats"]["unique_graphs"], result.metrics["test/mae"])
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++")
def test_run_with_a_compiled_posterior_ends_like_one_without(store, small_config, atlas_file):
    found = {}
    for flag in (False, True):
        config = small_config(f"{flag}.yaml", training={"compile": flag})
        # In processes of their own: the compiler cannot see through checks of array shapes.
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, str(config), str(atlas_file)],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        found[flag] = [float(word) for word in done.stdout.split()]
    (n_plain, plain), (n_compiled, compiled) = found[False], found[True]
    assert (n_plain, n_compiled) == (0, 1)
    assert compiled == pytest.approx(plain, rel=0.01)
