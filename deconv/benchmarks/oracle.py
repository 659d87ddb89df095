"""What a method reaches that is told which tissues may be in a sample.

Shape letters: N = samples, T = tissues.
"""

import numpy as np
import torch
from jaxtyping import Bool

from deconv.atlas import Atlas
from deconv.counts import RegionCounts
from deconv.estimator import AtlasEstimator
from deconv.inference import BATCH_SIZE
from deconv.metrics import PRESENT_FROM
from deconv.posterior import refit_called
from deconv.predictor import Deconvolution

ORACLE = "oracle"


def solve_told(
    estimator: AtlasEstimator,
    atlas: Atlas,
    samples: RegionCounts,
    told: Bool[np.ndarray, "N T"],
) -> Deconvolution:
    """Solve for the proportions of those tissues alone, and call what is `PRESENT_FROM` or more.

    A method that must find out which they are can hardly do better; where fractions are near
    `PRESENT_FROM`, even the calls of this one are wrong at times.
    """
    samples = samples.at_regions(atlas.regions)
    proportions = np.empty(told.shape)
    with torch.inference_mode():
        for first in range(0, len(samples), BATCH_SIZE):
            rows = slice(first, first + BATCH_SIZE)
            methylated, coverage = (
                torch.from_numpy(array[rows].astype(np.float32))
                for array in (samples.methylated, samples.coverage)
            )
            features, weight = estimator.features(methylated, coverage)
            projected = features @ estimator.initial_rows().T
            gram, moment = estimator.normal_equations(projected, weight)
            solved = refit_called(gram, moment, torch.from_numpy(told[rows]))
            proportions[rows] = solved.clamp(min=0).double().numpy()
    proportions /= proportions.sum(axis=1, keepdims=True)
    return Deconvolution(atlas.tissues, proportions, proportions >= PRESENT_FROM)
