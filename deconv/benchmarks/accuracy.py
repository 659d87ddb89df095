"""Accuracy of methods in a scenario, with what bounds it and how sure the figures are.

Shape letters: N = samples, T = tissues.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.metrics import roc_auc_score

from deconv.atlas import Atlas
from deconv.baselines import apply_threshold, baselines, best_threshold
from deconv.benchmarks.bootstrap import bootstrap_intervals
from deconv.benchmarks.oracle import ORACLE, solve_told
from deconv.benchmarks.scenarios import BACKGROUND, Scenario
from deconv.counts import RegionCounts
from deconv.evaluate import inside, score, true_proportions
from deconv.metrics import PRESENT_FROM, limit_of_detection
from deconv.predictor import Deconvolution, Method, NetworkMethod

THRESHOLDED = "+threshold"
NETWORK = "network"
_LOD_GOAL = 0.01
Row = dict[str, Any]


def compare(
    scenario: Scenario,
    network: NetworkMethod,
    *,
    samples: RegionCounts,
    validation: RegionCounts,
    seed: int,
) -> Iterator[Row]:
    """Yield a row per method: its metrics, and their bootstrap intervals under ``intervals``.

    Each baseline comes as it is, and with the threshold that has the fewest wrong calls on
    ``validation``, mixtures of the same scenario. `ORACLE` is told which tissues are in a
    sample.
    """
    methods: dict[str, Method] = {NETWORK: network, **_baselines(network.atlas, scenario)}
    for name, method in methods.items():
        result = method.predict(samples)
        yield _row(scenario, name, result, samples, seed)
        if name != NETWORK:
            best = best_threshold(method.predict(validation), validation)
            shown = name + THRESHOLDED
            yield _row(scenario, shown, apply_threshold(result, best), samples, seed)
    present = true_proportions(result, samples) > 0
    oracle = solve_told(network.network.estimator, network.atlas, samples, present)
    yield _row(scenario, ORACLE, oracle, samples, seed)


def margin(rows: list[Row]) -> Row:
    """Return the network's MAE and wrong calls relative to the best thresholded baselines'."""
    of_method = {row["method"]: row for row in rows}
    own = of_method[NETWORK]
    rivals = [row for name, row in of_method.items() if name.endswith(THRESHOLDED)]
    found: Row = {key: own[key] for key in ("scenario", "seed", "depth")}
    for metric in ("mae", "wrong_calls"):
        best = min(rivals, key=lambda row: float(row[metric]))
        found[metric], found[f"best_{metric}"] = own[metric], best[metric]
        found[f"best_by_{metric}"] = best["method"]
        found[f"{metric}_ratio"] = _ratio(own[metric], best[metric])
    found["oracle_mae_ratio"] = _ratio(of_method[ORACLE]["mae"], found["best_mae"])
    found["oracle_wrong_calls"] = of_method[ORACLE]["wrong_calls"]
    return found


def _ratio(value: float, reference: float) -> float | None:
    """Return a ratio, None if the reference makes no error at all."""
    return value / reference if reference else None


def _baselines(atlas: Atlas, scenario: Scenario) -> Mapping[str, Method]:
    """Return all; the one with an unknown component, 100 ms a sample, where it may pay."""
    found = baselines(atlas)
    if not scenario.lacks_tissue and scenario.name != "several":
        del found["em_unknown"]
    return found


def _row(
    scenario: Scenario, name: str, result: Deconvolution, samples: RegionCounts, seed: int
) -> Row:
    true = true_proportions(result, samples)
    row: Row = {
        "scenario": scenario.name,
        "method": name,
        "seed": seed,
        "depth": scenario.depth,
        "n_samples": len(samples),
        **score(result, samples),
    }
    row["wrong_calls"] = 1 - row["presence_accuracy"]
    if result.certainty is not None:
        row |= _certainty_metrics(result, true)
    if scenario.design == "titration" and name != ORACLE:
        row |= _limits(result, true)
    if scenario.lacks_tissue and result.certainty is not None:
        lacks = true.sum(axis=1) < 1 - 1e-3
        row["out_of_atlas_auroc"] = float(roc_auc_score(lacks, result.certainty.misfit_score))
        row["out_of_atlas_complete"] = float(result.certainty.out_of_atlas[~lacks].mean())
        row["out_of_atlas_lacking"] = float(result.certainty.out_of_atlas[lacks].mean())
    row["intervals"] = bootstrap_intervals(result.proportions, true, result.call, seed=seed)
    return row


def _certainty_metrics(result: Deconvolution, true: Float[np.ndarray, "N T"]) -> Row:
    """Return what `score` does not already say of certainty."""
    sure, present, absent = result.certainty, true >= PRESENT_FROM, true == 0
    assert sure is not None
    return {
        "interval_coverage_absent": (
            float(inside(sure, true)[absent].mean()) if absent.any() else None
        ),
        "interval_width": float((sure.high - sure.low)[present].mean()),
        "not_assessable": float((~result.call & ~sure.assessable).mean()),
        "out_of_atlas": float(sure.out_of_atlas.mean()),
    }


def _limits(result: Deconvolution, true: Float[np.ndarray, "N T"]) -> Row:
    """Return the limits of detection of the tissues spiked into the background."""
    shown = result.proportions if result.presence is None else result.presence
    limits = {
        tissue: limit_of_detection(shown[:, i], true[:, i])
        for i, tissue in enumerate(result.tissues)
        if tissue != BACKGROUND
    }
    return {
        "lod95": limits,
        "lod95_median": float(np.median(list(limits.values()))),
        "n_lod95_at_1_percent": sum(limit <= _LOD_GOAL for limit in limits.values()),
    }
