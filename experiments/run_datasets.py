"""The data of a run: as a line of its record has them, and as MLflow takes them."""

import json
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag


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
