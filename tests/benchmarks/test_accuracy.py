"""The accuracy benchmark measures what it says; its figures are not judged here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from deconv.benchmarks.accuracy import NETWORK, ORACLE, margin
from deconv.benchmarks.bootstrap import bootstrap_intervals
from deconv.benchmarks.scenarios import (
    BATCH_SHIFT,
    SCENARIOS,
    UNKNOWN_SHARE,
    Scenario,
    draw_scenario,
    pick_scenarios,
    shifted_batch,
)
from deconv.errors import ConfigError
from deconv.evaluate import calibration_error
from deconv.metrics import evaluate_predictions

DECONV = str(Path(sys.executable).with_name("deconv"))
FACTS = {"scenario", "method", "seed", "depth", "n_samples"}
CERTAIN = {
    "interval_coverage", "interval_coverage_absent", "interval_width", "calibration_error",
    "not_assessable", "out_of_atlas",
}  # fmt: skip


def run(folder):
    folder.mkdir()
    options = [f"--scenario={name}" for name in ("several", "missing_tissue", "titration")]
    done = subprocess.run(
        [DECONV, "benchmark", "accuracy", "--json=a.json", "--quick", "--regions=500", *options],
        cwd=folder, capture_output=True, text=True, check=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")},
    )  # fmt: skip
    return json.loads((folder / "a.json").read_text()), done.stdout


def test_every_method_is_measured_in_every_scenario_and_again_the_same(tmp_path):
    content, output = run(tmp_path / "one")
    again, _ = run(tmp_path / "two")
    client = MlflowClient(f"sqlite:///{tmp_path}/one/mlflow.db")
    experiment = client.get_experiment_by_name("benchmark-accuracy")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    results = content["results"]
    assert again["results"] == results
    shown = {(r["scenario"], r["method"]) for r in results}
    for name in ("several", "missing_tissue", "titration"):
        assert {NETWORK, ORACLE, "nnls", "weighted_nnls+threshold", "em+threshold"} <= {
            method for scenario, method in shown if scenario == name
        }
    for row in results:
        assert FACTS | {"mae", "presence_f1", "spurious_mass", "wrong_calls"} <= set(row)
        low, high = row["intervals"]["mae"]
        assert low <= row["mae"] <= high
        assert (row["method"] == NETWORK) == (set(row) >= CERTAIN)
    of = {(r["scenario"], r["method"]): r for r in results}
    assert of["several", ORACLE]["wrong_calls"] < of["several", "nnls"]["wrong_calls"]
    assert 0.5 < of["missing_tissue", NETWORK]["out_of_atlas_auroc"] <= 1
    assert len(of["titration", NETWORK]["lod95"]) == 21
    assert {m["scenario"] for m in content["margins"]} == {r["scenario"] for r in results}
    logged = {r.data.params["scenario"] + "/" + r.data.params["method"]: r for r in runs
              if r.data.tags.get("kind") == "benchmark"}  # fmt: skip
    assert len(logged) == len(results)
    value = logged["several/network"].data.metrics["test/mae"]
    assert value == of["several", NETWORK]["mae"]
    assert "wrong calls" in output
    page = (tmp_path / "one" / "a.html").read_text()
    assert "weighted_nnls+threshold" in page


def test_unknown_scenario_is_refused():
    assert pick_scenarios() == SCENARIOS
    with pytest.raises(ConfigError, match=r"no such scenario; got nothing; expected pure, two"):
        pick_scenarios(["nothing"])


def test_bootstrap_interval_is_that_of_resampled_samples():
    """Against resampling whole rows and the project's own metrics."""
    rng = np.random.default_rng(0)
    true = rng.dirichlet(np.full(5, 0.3), 60)
    predicted = rng.dirichlet(np.full(5, 0.3), 60)
    call = predicted >= 0.02
    found = bootstrap_intervals(predicted, true, call, seed=3)
    chosen = np.random.default_rng(3).integers(0, 60, (500, 60))
    values = [evaluate_predictions(predicted[i], true[i], call=call[i]) for i in chosen]
    for name in ("mae", "presence_f1", "presence_balanced_accuracy", "spurious_mass"):
        expected = np.quantile([v[name] for v in values], (0.025, 0.975))
        np.testing.assert_allclose(found[name], expected, rtol=1e-9)
    wrong = np.quantile([1 - v["presence_accuracy"] for v in values], (0.025, 0.975))
    np.testing.assert_allclose(found["wrong_calls"], wrong, rtol=1e-9)


def test_calibration_error_of_a_forecast_that_is_always_right_or_off_by_a_tenth():
    present = np.array([[True] * 6 + [False] * 4])
    assert calibration_error(np.full((1, 10), 0.6), present) == pytest.approx(0)
    assert calibration_error(np.full((1, 10), 0.5), present) == pytest.approx(0.1)


def test_shifted_batch_moves_all_donors_alike(pure):
    shifted = shifted_batch(pure, BATCH_SHIFT, seed=0)
    np.testing.assert_array_equal(shifted.coverage, pure.coverage)
    inner = (pure.beta > 0.2) & (pure.beta < 0.8) & (pure.coverage > 100)
    moved = np.where(inner, shifted.beta - pure.beta, np.nan)
    several = inner.sum(axis=0) >= 3
    assert np.nanstd(moved) > 0.05
    assert np.nanmean(np.nanstd(moved[:, several], axis=0)) < 0.3 * np.nanstd(moved)


def test_lacking_tissue_is_a_fifth_of_half_of_the_samples(split, atlas):
    scenario = Scenario(name="x", design="several", depth=200, lacks_tissue=True)
    drawn = draw_scenario(scenario, split.test, atlas, n=40, seed=0, lacking="Liver")
    assert "Liver" not in drawn.proportions.columns
    np.testing.assert_allclose(drawn.proportions[:20].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(drawn.proportions[20:].sum(axis=1), 1 - UNKNOWN_SHARE, atol=1e-5)
    assert drawn.coverage[:20].mean() == pytest.approx(drawn.coverage[20:].mean(), rel=0.1)
    liver = atlas.mean[atlas.tissues.index("Liver")]
    others = np.delete(atlas.mean, atlas.tissues.index("Liver"), axis=0)
    marks = (others.min(axis=0) > 0.9) & (liver < 0.2)
    assert np.nanmean(drawn.beta[:20][:, marks]) > 0.93
    assert np.nanmean(drawn.beta[20:][:, marks]) == pytest.approx(0.8, abs=0.05)


def test_margin_is_against_the_best_thresholded_baseline():
    def row(method, mae, wrong):
        return {"scenario": "s", "seed": 0, "depth": 5.0, "method": method, "mae": mae,
                "wrong_calls": wrong}  # fmt: skip

    found = margin([
        row("network", 0.8, 3.0), row("a", 0.1, 1.0), row("a+threshold", 1.0, 6.0),
        row("b+threshold", 2.0, 4.0), row("oracle", 0.5, 0.0),
    ])  # fmt: skip
    assert found["mae_ratio"] == 0.8
    assert found["best_by_wrong_calls"] == "b+threshold"
    assert found["wrong_calls_ratio"] == 0.75
    assert found["oracle_mae_ratio"] == 0.5
