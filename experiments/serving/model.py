"""The model that MLflow's scoring server asks: a bundle, run by the code installed here.

Whatever code or pickle lies beside a registered bundle is not run: only the bundle is read.
"""

from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel

from deconv.bundle import Bundle
from deconv.errors import DeconvError, InputError
from experiments.scoring import Scorer, signature_of


class _Served:
    """Answers requests of at most ``max_samples`` samples."""

    def __init__(self, scorer: Scorer, max_samples: int) -> None:
        self._scorer, self._max_samples = scorer, max_samples

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the table of `Scorer.score`, None where a number is missing.

        MLflow's server answers these errors with status 400.
        """
        try:
            n_samples = len(model_input["methylated"])
            if n_samples > self._max_samples:
                raise InputError(
                    "too many samples in a request", got=n_samples,
                    expected=f"at most {self._max_samples}",
                )  # fmt: skip
            table = self._scorer.score(model_input, params)
        except DeconvError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        # JSON has no NaN, though Python writes it.
        return table.replace({float("nan"): None})


def served_model(bundle: Bundle, max_samples: int) -> PyFuncModel:
    """Return a bundle as MLflow's scoring server takes it."""
    scorer = Scorer(bundle)
    about = Model(signature=signature_of(scorer.regions))
    return PyFuncModel(about, _Served(scorer, max_samples))
