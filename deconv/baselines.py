"""Classical methods to compare with, behind the same `predict` as the network."""

import numpy as np
from scipy.optimize import nnls

from deconv.atlas import Atlas
from deconv.counts import RegionCounts
from deconv.metrics import PRESENT_FROM
from deconv.predictor import MIN_OVERLAP, Deconvolution, observed_at


class NonNegativeLeastSquares:
    """NNLS of the beta values on the atlas' means, scaled to sum 1 (Lawson & Hanson 1974).

    Parameters
    ----------
    weighted
        Weigh each region by its coverage, as the variance of a beta value falls with it.
    """

    def __init__(
        self, atlas: Atlas, *, weighted: bool = False, min_overlap: float = MIN_OVERLAP
    ) -> None:
        self.atlas, self.weighted, self.min_overlap = atlas, weighted, min_overlap

    def predict(self, counts: RegionCounts) -> Deconvolution:
        """Deconvolve samples; errors as of the network."""
        counts = observed_at(self.atlas, counts, self.min_overlap)
        profiles = self.atlas.mean.T.astype(np.float64)
        proportions = np.empty((len(counts), len(self.atlas.tissues)))
        for i, (beta, coverage) in enumerate(zip(counts.beta, counts.coverage, strict=True)):
            seen = coverage > 0
            weight = np.sqrt(coverage[seen]) if self.weighted else np.ones(seen.sum())
            solution, _ = nnls(profiles[seen] * weight[:, None], beta[seen] * weight)
            total = solution.sum()
            # All zero means that no tissue explains anything: then all do alike.
            proportions[i] = solution / total if total > 0 else 1 / len(solution)
        return Deconvolution(self.atlas.tissues, proportions, proportions >= PRESENT_FROM)


def baselines(
    atlas: Atlas, *, min_overlap: float = MIN_OVERLAP
) -> dict[str, NonNegativeLeastSquares]:
    """Return the baselines of every run, by the name their metrics have."""
    return {
        "nnls": NonNegativeLeastSquares(atlas, min_overlap=min_overlap),
        "weighted_nnls": NonNegativeLeastSquares(atlas, weighted=True, min_overlap=min_overlap),
    }
