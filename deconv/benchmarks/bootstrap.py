"""Confidence intervals of metrics by resampling samples (Efron 1979).

Shape letters: N = samples, T = tissues, S = resamples.
"""

import numpy as np
from jaxtyping import Bool, Float

from deconv.metrics import PRESENT_FROM

N_RESAMPLES = 500
BOOTSTRAPPED = (
    "mae", "wrong_calls", "presence_f1", "presence_balanced_accuracy", "spurious_mass",
    "prediction_ratio",
)  # fmt: skip


def bootstrap_intervals(
    predicted: Float[np.ndarray, "N T"],
    true: Float[np.ndarray, "N T"],
    call: Bool[np.ndarray, "N T"],
    *,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Return 95 % percentile intervals of `BOOTSTRAPPED`; one that is not defined is left out.

    ``wrong_calls`` is 1 - ``presence_accuracy``; the others are those of `deconv.metrics`.
    """
    n = len(true)
    sums = _sums(predicted, true, call)
    chosen = np.random.default_rng(seed).integers(0, n, (N_RESAMPLES, n))
    weight = np.stack([np.bincount(row, minlength=n) for row in chosen])
    totals = {name: weight @ values for name, values in sums.items()}
    intervals = {}
    for name, values in _metrics(totals, n, true.shape[1]).items():
        finite = values[np.isfinite(values)]
        if len(finite):
            low, high = np.quantile(finite, (0.025, 0.975))
            intervals[name] = (float(low), float(high))
    return intervals


def _sums(
    predicted: Float[np.ndarray, "N T"],
    true: Float[np.ndarray, "N T"],
    call: Bool[np.ndarray, "N T"],
) -> dict[str, Float[np.ndarray, " N"]]:
    present = true >= PRESENT_FROM
    ratio = np.divide(predicted, true, out=np.zeros_like(true), where=present)
    parts = {
        "error": np.abs(predicted - true),
        "found": call & present,
        "false": call & ~present,
        "present": present,
        "spurious": np.where(present, 0, predicted),
        "ratio": ratio,
    }
    return {name: values.sum(axis=1, dtype=np.float64) for name, values in parts.items()}


def _metrics(
    total: dict[str, Float[np.ndarray, " S"]], n: int, n_tissues: int
) -> dict[str, Float[np.ndarray, " S"]]:
    missed = total["present"] - total["found"]
    absent = n * n_tissues - total["present"]
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, specificity = total["found"] / total["present"], 1 - total["false"] / absent
        return {
            "mae": total["error"] / (n * n_tissues),
            "wrong_calls": (missed + total["false"]) / (n * n_tissues),
            "presence_f1": 2 * total["found"] / (2 * total["found"] + missed + total["false"]),
            "presence_balanced_accuracy": (recall + specificity) / 2,
            "spurious_mass": total["spurious"] / n,
            "prediction_ratio": total["ratio"] / total["present"],
        }
