"""The results of a trained network: metrics beside the baselines, tables and figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deconv.baselines import run_baselines
from deconv.benchmarks.bootstrap import bootstrap_intervals
from deconv.counts import RegionCounts
from deconv.errors import MismatchError
from deconv.evaluate import score, summary_stats, true_proportions
from deconv.files import replacing, write_text
from deconv.metrics import PRESENT_FROM
from deconv.plots import evaluation_figures, miami_html
from deconv.predictor import Deconvolution, Method, NetworkMethod
from experiments.data import Dilutions, RunData
from experiments.metric_names import interval_names


def evaluate_run(
    method: NetworkMethod, data: RunData, *, present_from: float
) -> tuple[dict[str, float], dict[str, pd.DataFrame]]:
    """Evaluate a network and the baselines on the held-out mixtures and any dilutions.

    Returns
    -------
    Metrics named as in MLflow (``test/mae``, ``test/nnls/mae``), and tables by file stem:
    ``summary_stats`` of the test mixtures (of the validation ones if no donors were held out
    for a test), and ``dilutions``.
    """
    methods: dict[str, Method] = {"": method, **run_baselines(data.atlas)}
    metrics: dict[str, float] = {}
    tables: dict[str, pd.DataFrame] = {}
    for set_name, mixtures in (("val", data.validation), ("test", data.test)):
        if mixtures is None:
            continue
        for name, candidate in methods.items():
            if candidate is method and set_name == "val" and data.test is not None:
                continue  # the curves have its metrics, at every epoch
            result = candidate.predict(mixtures)
            if candidate is method:
                tables["summary_stats"] = summary_stats(result, mixtures)
                if present_from == PRESENT_FROM:
                    metrics |= _intervals(set_name, result, mixtures)
            if candidate is not method or set_name == "test":
                found = score(result, mixtures, present_from=present_from)
                metrics |= _prefixed(set_name, name, found)
    if data.dilutions is not None:
        predicted = {
            name or "network": total_fraction(candidate, data.dilutions)
            for name, candidate in methods.items()
        }
        truth = data.dilutions.fraction
        for name, fraction in predicted.items():
            errors = {"mae": float(np.abs(fraction - truth).mean())}
            errors["mean_at_lowest"] = float(fraction[truth == truth.min()].mean())
            metrics |= _prefixed("dilutions", "" if name == "network" else name, errors)
        tables["dilutions"] = pd.DataFrame(
            {"sample": data.dilutions.counts.samples.index, "true": truth, **predicted}
        )
    return metrics, tables


def total_fraction(method: Method, dilutions: Dilutions) -> np.ndarray:
    """Return the summed proportion of the tissues whose dilution is known, per sample."""
    result = method.predict(dilutions.counts)
    missing = sorted(set(dilutions.tissues) - set(result.tissues))
    if missing:
        raise MismatchError(
            "the atlas lacks tissues of the dilutions", where="data.dilutions.tissues",
            got=", ".join(missing), expected=", ".join(result.tissues),
        )  # fmt: skip
    columns = [result.tissues.index(tissue) for tissue in dilutions.tissues]
    return np.asarray(result.proportions[:, columns].sum(axis=1))


def write_results(
    folder: Path, metrics: Mapping[str, float], tables: Mapping[str, pd.DataFrame], facts: Any
) -> None:
    """Write ``test_results.json``, the tables as CSV and all figures into a run's folder."""
    write_text(
        folder / "test_results.json", json.dumps({**facts, "metrics": dict(metrics)}, indent=1)
    )
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", table.to_csv(index=False))
    stats = tables["summary_stats"]
    for name, figure in evaluation_figures(stats).items():
        with replacing(folder / "figures" / f"{name}.png") as path:
            figure.savefig(path)
    write_text(folder / "figures" / "miami.html", miami_html(stats))


def _intervals(set_name: str, result: Deconvolution, mixtures: RegionCounts) -> dict[str, float]:
    """Return the limits of the 95 % intervals over samples, for tables that show no samples."""
    truth = true_proportions(result, mixtures)
    found = bootstrap_intervals(result.proportions, truth, result.call, seed=0)
    limits: dict[str, float] = {}
    for name, interval in found.items():
        limits |= dict(zip(interval_names(f"{set_name}/{name}"), interval, strict=True))
    return limits


def _prefixed(set_name: str, method: str, metrics: Mapping[str, float]) -> dict[str, float]:
    prefix = f"{set_name}/{method}/" if method else f"{set_name}/"
    return {prefix + name: value for name, value in metrics.items()}
