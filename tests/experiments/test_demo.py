"""The demo reaches what it promises, on donors that it has not seen."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

DECONV = str(Path(sys.executable).with_name("deconv"))


def test_demo_beats_nnls_promotes_and_predicts(store, client):
    done = subprocess.run([DECONV, "demo"], cwd=store, capture_output=True, text=True, check=True)
    assert "fail" not in done.stdout
    (results,) = store.glob("demo/runs/*/test_results.json")
    metrics = json.loads(results.read_text())["metrics"]
    for network, nnls in (("best/val", "val/nnls"), ("test", "test/nnls")):
        assert metrics[f"{network}/presence_balanced_accuracy"] >= 0.95
        assert metrics[f"{network}/mae"] <= 0.7 * metrics[f"{nnls}/mae"]
        assert metrics[f"{network}/spurious_mass"] <= 0.01
        assert 0.9 <= metrics[f"{network}/prediction_ratio"] <= 1.1
    version = client.get_model_version_by_alias("sparse-deconvolution", "production")
    assert version.run_id == json.loads(results.read_text())["run_id"]
    table = pd.read_csv(store / "demo" / "predictions.csv")
    assert table["sample"].nunique() == 8
    assert (table.loc[table["call"] == "not detected", "proportion"] == 0).all()
