"""Classical methods to compare with, behind the same `predict` as the network."""

from deconv.atlas import Atlas
from deconv.baselines.em import BinomialEM
from deconv.baselines.least_squares import NonNegativeLeastSquares
from deconv.baselines.robust import RobustRegression
from deconv.baselines.threshold import (
    Thresholded,
    apply_threshold,
    best_threshold,
    choose_threshold,
)
from deconv.predictor import MIN_OVERLAP, Method

__all__ = [
    "BinomialEM",
    "NonNegativeLeastSquares",
    "RobustRegression",
    "Thresholded",
    "apply_threshold",
    "baselines",
    "best_threshold",
    "choose_threshold",
    "run_baselines",
]


def run_baselines(atlas: Atlas, *, min_overlap: float = MIN_OVERLAP) -> dict[str, Method]:
    """Return the baselines of every run, by the name their metrics have."""
    return {
        "nnls": NonNegativeLeastSquares(atlas, min_overlap=min_overlap),
        "weighted_nnls": NonNegativeLeastSquares(atlas, weighted=True, min_overlap=min_overlap),
    }


def baselines(atlas: Atlas, *, min_overlap: float = MIN_OVERLAP) -> dict[str, Method]:
    """Return all baselines by name, those of every run first."""
    return {
        **run_baselines(atlas, min_overlap=min_overlap),
        "robust": RobustRegression(atlas, min_overlap=min_overlap),
        "em": BinomialEM(atlas, min_overlap=min_overlap),
        "em_unknown": BinomialEM(atlas, n_unknown=1, min_overlap=min_overlap),
    }
