"""The tuning benchmark measures what it says; its figures are not judged here."""

import json
import os
from pathlib import Path

import pytest

SMALL = (
    "training.mixtures_per_epoch=256", "training.num_epochs=4", "data.validation_mixtures=60",
    "data.test_mixtures=60",
)  # fmt: skip


@pytest.mark.slow  # 500 quick trials twice, and one of the demo as it is
def test_benchmark_has_every_part(deconv, database, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "untouched")
    file, here = tmp_path / "tuning.json", Path.cwd()
    options = ["--trials", 4, "--regions", 300, "--postgres", database]
    for setting in SMALL:
        options += ["--set", setting]
    status, output, error = deconv("benchmark", "tuning", "--json", file, *options)
    assert status == 0, error
    found = json.loads(file.read_text())
    for kind in ("journal", "postgresql"):
        storage = found[f"storage_{kind}"]
        assert (storage["trials"], storage["errors"], storage["twice"]) == (500, 0, 0)
    full, pruned = found["pruner_none"], found["pruner_hyperband"]
    assert (full["complete"], full["pruned"], full["epochs"]) == (4, 0, 16)
    assert pruned["complete"] + pruned["pruned"] == 4
    assert found["pruning"]["epochs_saved"] == pytest.approx(1 - pruned["epochs"] / 16)
    assert found["tuned"]["low"] <= found["tuned"]["difference"] <= found["tuned"]["high"]
    assert found["overhead"]["seconds_per_trial"] > full["seconds_per_trial"]
    assert 0 < found["overhead"]["share_of_a_demo_trial"] < 1
    assert found["tuned"]["verdict"] in output
    assert (Path.cwd(), os.environ["MLFLOW_TRACKING_URI"]) == (here, "untouched")
