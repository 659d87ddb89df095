"""Evaluation on fixed sets of mixtures: the same for the network and every baseline."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from deconv.certainty import Certainty
from deconv.counts import RegionCounts
from deconv.metrics import PRESENT_FROM, evaluate_predictions
from deconv.mixtures import MixingEngine
from deconv.predictor import Deconvolution

_DRAW_SIZE = 64


def draw_mixtures(engine: MixingEngine, n: int) -> RegionCounts:
    """Draw a fixed evaluation set: the first ``n`` mixtures of an engine, with the truth."""
    n_regions = len(engine.atlas.regions)
    methylated = np.empty((n, n_regions), dtype=np.int32)
    coverage = np.empty_like(methylated)
    proportions = np.empty((n, len(engine.atlas.tissues)))
    for index, first in enumerate(range(0, n, _DRAW_SIZE)):
        rows = slice(first, min(first + _DRAW_SIZE, n))
        size = rows.stop - first
        batch = engine.batch(index, _DRAW_SIZE)
        methylated[rows] = batch.methylated[:size].cpu().numpy()
        coverage[rows] = batch.coverage[:size].cpu().numpy()
        # As decimals again: 1 % in single precision would be a little less than .01.
        proportions[rows] = batch.proportions[:size].double().cpu().numpy().round(7)
    samples = pd.DataFrame(index=pd.Index([f"mixture-{i}" for i in range(n)], name="sample"))
    truth = pd.DataFrame(proportions, index=samples.index, columns=list(engine.atlas.tissues))
    return RegionCounts(methylated, coverage, engine.atlas.regions, samples, truth)


def score(
    result: Deconvolution, mixtures: RegionCounts, *, present_from: float = PRESENT_FROM
) -> dict[str, float]:
    """Return the metrics of a result on mixtures of known proportions.

    A result that says how sure it is also has ``interval_coverage`` (the share of present
    tissues whose 95 % interval holds the truth) and ``calibration_error``.
    """
    true = true_proportions(result, mixtures)
    metrics = evaluate_predictions(
        result.proportions, true, call=result.call, presence=result.presence,
        present_from=present_from,
    )  # fmt: skip
    sure, present = result.certainty, true >= present_from
    if sure is not None and result.presence is not None:
        metrics["interval_coverage"] = float(inside(sure, true)[present].mean())
        metrics["calibration_error"] = calibration_error(result.presence, present)
    return metrics


def inside(sure: Certainty, true: Float[np.ndarray, "N T"]) -> Bool[np.ndarray, "N T"]:
    """Return which intervals hold the truth."""
    return np.asarray((sure.low - 1e-9 <= true) & (true <= sure.high + 1e-9))


def calibration_error(
    probability: Float[np.ndarray, "N T"], present: Bool[np.ndarray, "N T"]
) -> float:
    """Return the expected calibration error in ten bins (Naeini et al. 2015)."""
    bins = np.clip((10 * probability).astype(int), 0, 9)
    return float(
        sum(
            abs(present[bins == b].mean() - probability[bins == b].mean()) * (bins == b).mean()
            for b in np.unique(bins)
        )
    )


def summary_stats(result: Deconvolution, mixtures: RegionCounts) -> pd.DataFrame:
    """Return a row per sample and tissue: the result beside the true proportion."""
    table = result.table(mixtures.samples.index)
    table = table.rename(columns={"proportion": "predicted_proportion"})
    table.insert(2, "true_proportion", true_proportions(result, mixtures).ravel())
    return table


def true_proportions(result: Deconvolution, mixtures: RegionCounts) -> np.ndarray:
    """Return the true fractions in the order of the result's tissues, 0 for one not mixed."""
    if mixtures.proportions is None:
        raise ValueError("the true proportions of these mixtures are not known")
    return mixtures.proportions.reindex(columns=list(result.tissues), fill_value=0.0).to_numpy()
