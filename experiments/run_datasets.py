"""The data of a run: as a line of its record has them, and as MLflow takes them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

_TRIES = 5


def dataset_data(
    name: str, digest: str, *, source: str, profile: Mapping[str, Any], context: str
) -> dict[str, str]:
    """Return a dataset of a run as a line of the record has it."""
    return {
        "name": name, "digest": digest, "context": context,
        "source": json.dumps({"uri": source}), "profile": json.dumps(dict(profile)),
    }  # fmt: skip


def dataset_input(
    *, name: str, digest: str, context: str, source: str, profile: str
) -> DatasetInput:
    """Return it as MLflow takes it."""
    dataset = Dataset(
        name=name, digest=digest, source_type="local", source=source, profile=profile
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", context)])


def log_datasets(client: MlflowClient, run_id: str, datasets: Sequence[Mapping[str, str]]) -> None:
    """Log datasets of a run, of which others may log the same.

    MLflow refuses the later of two runs that tell of the same new data at once; asked again, it
    finds them.

    Raises
    ------
    MlflowException
        If the store is away or refuses.
    """
    inputs = [dataset_input(**dataset) for dataset in datasets]
    for left in reversed(range(_TRIES)):
        try:
            client.log_inputs(run_id, inputs)
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST" or not left:
                raise
        else:
            return
