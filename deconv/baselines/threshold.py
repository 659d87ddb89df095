"""A detection threshold for any method, chosen on validation mixtures.

Shape letters: N = samples, T = tissues, k = thresholds.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from deconv.counts import RegionCounts
from deconv.errors import InputError
from deconv.evaluate import true_proportions
from deconv.metrics import PRESENT_FROM
from deconv.predictor import Deconvolution, Method

CANDIDATES = np.unique(np.append(np.geomspace(0.0005, 0.05, 201), PRESENT_FROM))
"""Thresholds tried: 2.3 % apart, from .05 % to 5 %, and the fraction that means "present"."""


class Thresholded:
    """A method whose small proportions are taken for absent tissues.

    Parameters
    ----------
    threshold
        Smallest proportion that is kept.

    Raises
    ------
    InputError
        If the threshold is not a fraction below 1.
    """

    def __init__(self, method: Method, threshold: float) -> None:
        if not 0 <= threshold < 1:
            raise InputError("a threshold is a fraction", got=threshold, expected="0 <= t < 1")
        self.method, self.threshold = method, threshold

    def predict(self, counts: RegionCounts) -> Deconvolution:
        """Deconvolve samples; errors as of the method."""
        return apply_threshold(self.method.predict(counts), self.threshold)


def apply_threshold(result: Deconvolution, threshold: float) -> Deconvolution:
    """Set proportions below the threshold to 0 and scale the rest to sum 1.

    What remains is called. Where nothing would, the largest tissue alone does.
    """
    kept = result.proportions >= threshold
    rows = np.arange(len(kept))
    kept[rows, result.proportions.argmax(axis=1)] = True
    proportions = np.where(kept, result.proportions, 0)
    proportions /= proportions.sum(axis=1, keepdims=True)
    return replace(result, proportions=proportions, call=kept)


def choose_threshold(
    method: Method, validation: RegionCounts, *, present_from: float = PRESENT_FROM
) -> Thresholded:
    """Return the method with the threshold that is best on validation mixtures.

    Parameters
    ----------
    validation
        Mixtures with their true proportions, of donors that are not in the test.
    present_from
        Fraction from which a tissue is truly present.

    Raises
    ------
    ValueError
        If the true proportions are not known.
    """
    result = method.predict(validation)
    return Thresholded(method, best_threshold(result, validation, present_from=present_from))


def best_threshold(
    result: Deconvolution, validation: RegionCounts, *, present_from: float = PRESENT_FROM
) -> float:
    """Return which of `CANDIDATES` makes the fewest wrong presence calls of a result.

    Among equals it is the one closest to `PRESENT_FROM`. See `choose_threshold`.
    """
    present = true_proportions(result, validation) >= present_from
    n_wrong = wrong_calls(result.proportions, present, CANDIDATES)
    best = np.flatnonzero(n_wrong == n_wrong.min())
    return float(CANDIDATES[best[np.abs(CANDIDATES[best] - PRESENT_FROM).argmin()]])


def wrong_calls(
    proportions: Float[np.ndarray, "N T"],
    present: Bool[np.ndarray, "N T"],
    thresholds: Float[np.ndarray, " k"],
) -> Int[np.ndarray, " k"]:
    """Count the calls that `apply_threshold` gets wrong at each threshold.

    The largest tissue of a sample is called whatever the threshold.
    """
    proportions = proportions.copy()
    proportions[np.arange(len(proportions)), proportions.argmax(axis=1)] = 1
    absent_at = np.sort(proportions[~present])
    present_at = np.sort(proportions[present])
    n_missed = np.searchsorted(present_at, thresholds, side="left")
    n_spurious = len(absent_at) - np.searchsorted(absent_at, thresholds, side="left")
    return n_missed + n_spurious
