"""The benchmark of serving has every figure; rates are not judged, failures and memory are."""

import json
import math

import pytest

RATES = {"n_regions", "n_samples", "asked", "clients", "seconds", "answers", "answers_per_s",
         "samples_per_s", "p50_ms", "p95_ms", "p99_ms"}  # fmt: skip
OF_SERVER = {"failures", "first_failures", "memory_before_mb", "memory_half_mb",
             "memory_after_mb", "memory_peak_mb"}  # fmt: skip


def run(deconv, folder, *options):
    path = folder / "serve.json"
    status, output, error = deconv("benchmark", "serve", "--json", path, *options)
    assert status == 0, output + error
    return json.loads(path.read_text())["results"]


def check(results, clients):
    library = [r for r in results if r["asked"] == "library"]
    server = [r for r in results if r["asked"] == "server"]
    assert library
    assert [r["clients"] for r in server] == clients
    for result in results:
        assert set(result) == RATES | (OF_SERVER if result in server else set())
        assert result["answers"] > 0
        assert 0 < result["p50_ms"] <= result["p95_ms"] <= result["p99_ms"]
        rate = result["answers"] / result["seconds"]
        assert math.isclose(result["answers_per_s"], rate)
        assert math.isclose(result["samples_per_s"], rate * result["n_samples"])
    for result in server:
        assert result["failures"] == 0, result["first_failures"]
        assert result["memory_peak_mb"] >= result["memory_before_mb"] > 100


def test_short_load_has_every_figure_and_no_failure(deconv, tmp_path):
    options = ("--regions", 300, "--samples", 2, "--clients", 2, "--clients", 8)
    results = run(deconv, tmp_path, *options, "--seconds", 1, "--load-seconds", 2)
    check(results, [2, 8, 8])


@pytest.mark.slow
def test_a_minute_at_32_clients_has_no_failure_and_bounded_memory(deconv, tmp_path):
    results = run(deconv, tmp_path, "--regions", 8000, "--clients", 32, "--seconds", 20)
    check(results, [32, 32])
    long = results[-1]
    assert long["seconds"] >= 60
    assert long["memory_after_mb"] < 1.1 * long["memory_half_mb"]
