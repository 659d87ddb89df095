"""The speed benchmark measures what it says; its figures are not judged here."""

import json
import os

import h5py
import numpy as np
import pytest
import torch

from deconv.benchmarks.naive import N_POSITIONS, draw_mixture, write_patterns
from deconv.precision import native_precisions

FIELDS = {
    "device", "precision", "n_regions", "batch_size", "engine_per_s", "step_per_s",
    "compiled_step_per_s", "roofline_per_s", "naive_per_s", "mixing_share", "tracking_share",
    "peak_memory_mb", "predict_1000_s", "load_s",
}  # fmt: skip


def test_small_benchmark_has_every_figure(deconv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")  # of somebody's store, not of the benchmark's
    options = ("--regions", 300, "--batch-size", 32, "--epochs", 1)
    status, output, error = deconv("benchmark", "speed", "--json", "speed.json", *options)
    assert status == 0, error
    results = json.loads((tmp_path / "speed.json").read_text())["results"]
    assert [r["precision"] for r in results] == native_precisions(torch.device("cpu"))
    for result in results:
        assert set(result) == FIELDS
        assert result["n_regions"] == 300
        assert all(value > 0 for value in result.values() if isinstance(value, float))
        assert result["step_per_s"] < result["roofline_per_s"]
        assert 0 < result["tracking_share"] < 1
    assert "roofline_per_s" in output
    assert not (tmp_path / "mlflow.db").exists()
    assert os.environ["MLFLOW_EXPERIMENT_ID"] == "7"


def test_naive_path_averages_what_it_reads(tmp_path):
    write_patterns(tmp_path / "n.h5", n_samples=4, n_regions=20, seed=0)
    with h5py.File(tmp_path / "n.h5") as file:
        patterns = file["methylation"][:].astype(float)
        mixed = draw_mixture(file, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    sources, fractions = rng.choice(4, 4, replace=False), rng.dirichlet(np.ones(4))
    methylated = (patterns == 1).sum(axis=2)
    beta = methylated / np.maximum((patterns != 2).sum(axis=2), 1)
    assert patterns.shape[2] == N_POSITIONS
    assert mixed == pytest.approx(fractions @ beta[sources], abs=1e-5)
