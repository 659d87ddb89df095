"""Confidence intervals of metrics, and of their differences, by resampling samples (Efron 1979).

Shape letters: N = samples, T = tissues, S = resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from deconv.metrics import PRESENT_FROM

N_RESAMPLES, N_PAIRED = 500, 2000
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
    weight = _resamples(len(true), N_RESAMPLES, seed)
    intervals = {}
    for name, values in _weighted(predicted, true, call, weight).items():
        finite = values[np.isfinite(values)]
        if len(finite):
            low, high = np.quantile(finite, (0.025, 0.975))
            intervals[name] = (float(low), float(high))
    return intervals


@dataclass(frozen=True)
class Difference:
    """A metric of one method less that of another, on the same samples.

    ``low`` and ``high`` are its 95 % percentile interval, ``p_value`` is two-sided: how often
    resampling turns the sign, at least 2 / (resamples + 1).
    """

    value: float
    low: float
    high: float
    p_value: float


def paired_differences(
    first: tuple[Float[np.ndarray, "N T"], Bool[np.ndarray, "N T"]],
    second: tuple[Float[np.ndarray, "N T"], Bool[np.ndarray, "N T"]],
    true: Float[np.ndarray, "N T"],
    *,
    seed: int,
) -> dict[str, Difference]:
    """Return, for each of `BOOTSTRAPPED`, what the first method has more than the second.

    A method is its predicted fractions and its calls. Each resample draws the same samples for
    both, so that what makes a sample hard for both cancels out.
    """
    weight = np.vstack([np.ones(len(true)), _resamples(len(true), N_PAIRED, seed)])
    ours, theirs = (
        _weighted(predicted, true, call, weight) for predicted, call in (first, second)
    )
    differences = {}
    for name in BOOTSTRAPPED:
        value, *resampled = ours[name] - theirs[name]
        finite = np.array([d for d in resampled if np.isfinite(d)])
        if not (np.isfinite(value) and len(finite)):
            continue
        low, high = np.quantile(finite, (0.025, 0.975))
        tail = min((finite <= 0).sum(), (finite >= 0).sum())
        p_value = min(1.0, 2 * (tail + 1) / (len(finite) + 1))
        differences[name] = Difference(float(value), float(low), float(high), float(p_value))
    return differences


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979, Scand J Stat 6, 65-70)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def _resamples(n: int, n_resamples: int, seed: int) -> Float[np.ndarray, "S N"]:
    """Return how often each sample is drawn in each resample."""
    chosen = np.random.default_rng(seed).integers(0, n, (n_resamples, n))
    return np.stack([np.bincount(row, minlength=n) for row in chosen]).astype(np.float64)


def _weighted(
    predicted: Float[np.ndarray, "N T"],
    true: Float[np.ndarray, "N T"],
    call: Bool[np.ndarray, "N T"],
    weight: Float[np.ndarray, "S N"],
) -> dict[str, Float[np.ndarray, " S"]]:
    totals = {name: weight @ values for name, values in _sums(predicted, true, call).items()}
    return _metrics(totals, *true.shape)


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
