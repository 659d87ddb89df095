"""The registered model, as MLflow runs it: this file as code, a bundle as data, no pickle.

Input: ``methylated`` and ``coverage``, integers [samples, regions], in the region order of the
bundle. Output: a row per sample and tissue; the proportion of one that is not assessable is NaN.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from deconv.bundle import read_bundle
from deconv.counts import RegionCounts
from deconv.predictor import NetworkMethod
from deconv.quality import enough_observed, informative_regions, n_observed
from deconv.reported import reported_table


class DeconvolutionModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
    """Predicts with the network of a bundle."""

    def load_context(self, context: Any) -> None:
        """Read the bundle, which checks its hashes."""
        bundle = read_bundle(Path(context.artifacts["bundle"]))
        self._method, self._regions = (
            NetworkMethod(bundle.network, bundle.atlas, calibration=bundle.calibration),
            bundle.atlas.regions,
        )
        self._informative = informative_regions(bundle.atlas)

    # The logged signature is the schema: MLflow's own schema by type hints knows no tensors,
    # and without this, or with hints, it warns every user who loads the model.
    _skip_type_hint_validation = True

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Deconvolve samples, which are numbered from 0; errors as `RegionCounts` says."""
        methylated, coverage = (np.asarray(model_input[k]) for k in ("methylated", "coverage"))
        samples = pd.DataFrame(index=pd.RangeIndex(len(methylated), name="sample"))
        counts = RegionCounts(methylated, coverage, self._regions, samples)
        observed = n_observed(counts.coverage, self._informative)
        assessable = enough_observed(observed, self._informative.sum(axis=1))
        return reported_table(self._method.predict(counts), samples.index, assessable)


mlflow.models.set_model(DeconvolutionModel())
