"""The registered model, as MLflow runs it: this file as code, a bundle as data, no pickle.

Input: ``methylated`` and ``coverage``, counts as doubles [samples, regions], in the region order
of the bundle, and ``params={"build": ...}``, see `experiments.scoring`. Output: a row per sample
and tissue; the proportion of one that is not assessable is NaN.
"""

from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from deconv.bundle import read_bundle
from deconv.errors import DeconvError
from experiments.scoring import Scorer


class DeconvolutionModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
    """Predicts with the network of a bundle."""

    def load_context(self, context: Any) -> None:
        """Read the bundle, which checks its hashes."""
        self._scorer = Scorer(read_bundle(Path(context.artifacts["bundle"])))

    # The logged signature is the schema: MLflow's own schema by type hints knows no tensors,
    # and without this, or with hints, it warns every user who loads the model.
    _skip_type_hint_validation = True

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Deconvolve samples, see `Scorer.score`; MLflow's server answers errors with 400."""
        try:
            return self._scorer.score(model_input, params)
        except DeconvError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


mlflow.models.set_model(DeconvolutionModel())
