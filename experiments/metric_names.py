"""What people need to know of a metric beside its name: which way is better, how it is shown."""

import math
from collections.abc import Sequence

PERCENT = {"mae", "rmse", "spurious_mass", "spurious_rate", "wrong_calls", "mean_at_lowest"}
"""Fractions of DNA or of calls that read better in percent."""
_SMALLER = PERCENT | {"mse", "loss", "mse_loss", "presence_loss", "sparsity_loss", "loss_trend"}
_LARGER = {
    "presence_accuracy", "presence_balanced_accuracy", "presence_precision", "presence_recall",
    "presence_f1", "presence_auroc", "presence_auprc", "exact_support",
}  # fmt: skip
_NEAREST_ONE = {"prediction_ratio"}
TITLES = {
    "mae": "MAE",
    "presence_balanced_accuracy": "bal. acc.",
    "presence_f1": "F1",
    "spurious_mass": "spurious",
    "prediction_ratio": "ratio",
    "wrong_calls": "wrong calls",
}
INTERVAL = "interval"
"""Metrics are logged as ``test/mae``, their limits as ``test/interval/mae_low`` and ``_high``."""


def base_name(metric: str) -> str:
    """Return ``mae`` of ``test/nnls/mae``."""
    return metric.rpartition("/")[2]


def interval_names(metric: str) -> tuple[str, str]:
    """Return the names under which the limits of a metric's 95 % interval are logged."""
    prefix, _, base = metric.rpartition("/")
    return f"{prefix}/{INTERVAL}/{base}_low", f"{prefix}/{INTERVAL}/{base}_high"


def smaller_is_better(metric: str) -> bool | None:
    """Return which way a metric improves; None if that is not known or there is no order."""
    base = base_name(metric)
    if base in _SMALLER:
        return True
    return False if base in _LARGER else None


def best_of(metric: str, values: Sequence[float | None]) -> int | None:
    """Return the position of the best value, None if there is none or which way is unknown."""
    numbers = [(i, v) for i, v in enumerate(values) if v is not None and math.isfinite(v)]
    smaller = smaller_is_better(metric)
    if base_name(metric) in _NEAREST_ONE:
        numbers, smaller = [(i, abs(v - 1)) for i, v in numbers], True
    if not numbers or smaller is None:
        return None
    return min(numbers, key=lambda pair: pair[1] if smaller else -pair[1])[0]


def show(metric: str, value: float | None) -> str:
    """Return a value as people read it: fractions of DNA in percent, nothing as a dash."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    base = base_name(metric)
    if base in PERCENT:
        return f"{100 * value:.3f} %"
    return format(value, ".0f" if base == "epoch" else ".2e" if base == "mse" else ".4f")


def show_interval(metric: str, interval: tuple[float, float] | None) -> str:
    """Return an interval as people read it, empty if there is none."""
    if interval is None:
        return ""
    low, high = (show(metric, value).removesuffix(" %") for value in interval)
    return f"{low}\N{EN DASH}{high}"
