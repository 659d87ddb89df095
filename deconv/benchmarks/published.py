"""Published estimators as their authors run them, to compare with on their own data."""

import numpy as np

from deconv.baselines.least_squares import as_deconvolution, fit
from deconv.counts import RegionCounts
from deconv.errors import InputError
from deconv.formats.uxm_atlas import UxmAtlas
from deconv.predictor import MIN_OVERLAP, Deconvolution, observed_at


class UxmNnls:
    """The weighted NNLS of UXM (Loyfer et al. 2023), which gives the published figures.

    Each marker's row of the atlas and share of the sample are multiplied by the marker's
    number of fragments n (U + X + M), so its squared residual weighs n squared. That is
    more than the variance of a share asks for, which is n (`weighted_nnls`). The fractions
    are those of the atlas file: not clipped, and a marker that lacks one of any cell type
    is left out, as is one without fragments in the sample.

    How this was found: no other of weight 1, n or n squared, with or without clipping,
    with such markers in or out, gives all five figures that are published for the liver
    and the lung sample (`deconv.benchmarks.real.UXM_SAMPLES`); this gives each to .001.

    Raises
    ------
    InputError
        If no marker has a fraction of all cell types.
    """

    def __init__(self, uxm: UxmAtlas, *, min_overlap: float = MIN_OVERLAP) -> None:
        self.atlas, self.min_overlap = uxm.atlas, min_overlap
        self._used = np.flatnonzero(np.isfinite(uxm.fraction).all(axis=0))
        if not self._used.size:
            raise InputError("no marker has a fraction of all cell types")
        self._fraction = uxm.fraction[:, self._used]

    def predict(self, counts: RegionCounts) -> Deconvolution:
        """Deconvolve samples; errors as of the network."""
        counts = observed_at(self.atlas, counts, self.min_overlap)
        successes, n = counts.methylated[:, self._used], counts.coverage[:, self._used]
        weight = n.astype(np.float64) ** 2
        return as_deconvolution(self.atlas, fit(self._fraction, successes, n, weight))
