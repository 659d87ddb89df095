"""The model that MLflow's scoring server asks: a bundle, run by the code installed here.

Whatever code or pickle lies beside a registered bundle is not run: only the bundle is read.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel

from deconv.bundle import Bundle
from deconv.errors import DeconvError, InputError
from deconv.quality import measure
from deconv.trained_range import sample_figures
from experiments.models import Identity
from experiments.models import Model as Analysed
from experiments.predict import Prediction
from experiments.prediction_records import Record as Kept
from experiments.prediction_records import add_records, records_of
from experiments.scoring import Scored, Scorer, signature_of

Record = Callable[[Scored], None]


class _Served:
    """Answers requests of at most ``max_samples`` samples, and tells ``record`` of each."""

    def __init__(self, scorer: Scorer, max_samples: int, record: Record) -> None:
        self._scorer, self._max_samples, self._record = scorer, max_samples, record

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
            scored = self._scorer.analyse(model_input, params)
        except DeconvError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        self._record(scored)  # its errors are the server's
        # JSON has no NaN, though Python writes it.
        return scored.table.replace({float("nan"): None})


def served_model(
    bundle: Bundle, max_samples: int, *, identity: Identity, records: Path | None
) -> PyFuncModel:
    """Return a bundle as MLflow's scoring server takes it.

    What it answers is recorded in a folder, if one is given, before the client gets it.
    """
    scorer = Scorer(bundle)
    about = Model(signature=signature_of(scorer.regions))
    model = Analysed(scorer.method, bundle.atlas, scorer.informative, identity)

    def record(scored: Scored) -> None:
        if records is not None:
            add_records(records, _records_of(scored, model))

    return PyFuncModel(about, _Served(scorer, max_samples, record))


def _records_of(scored: Scored, model: Analysed) -> list[Kept]:
    measured = measure(model.atlas, scored.counts, model.informative)
    figures = sample_figures(measured, scored.result)
    # Samples of a request have no names, only places in it.
    return records_of(Prediction(model, scored.table, measured, figures, [], []), names=False)
