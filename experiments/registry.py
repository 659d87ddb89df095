"""The model registry: log, register and promote bundles; fetch them for use."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from deconv.bundle import read_bundle
from deconv.errors import ConfigError, DeconvError
from deconv.predictor import CERTAINTY_COLUMNS
from experiments.gates import (
    Verdict,
    check_against_champion,
    check_limits,
    check_sparse,
    load_gates,
)
from experiments.tracking import TrackedRun, tracking_errors

MODEL_NAME = "sparse-deconvolution"
PRODUCTION, PREVIOUS = "production", "previous"
_MODEL_TAG = "model_uri"
_REQUIREMENTS = ["torch", "numpy", "pandas", "scipy", "safetensors", "pydantic", "scikit-learn"]


@dataclass(frozen=True)
class Decision:
    """What became of a candidate: its version, None for a model that is not sparse."""

    run_id: str
    verdicts: list[Verdict]
    version: str | None

    @property
    def promoted(self) -> bool:
        """Whether `production` now names this model."""
        return all(verdict.passed for verdict in self.verdicts)


def log_bundle(tracked: TrackedRun, folder: Path, *, step: int) -> None:
    """Log a bundle as the MLflow model of a run, unless the run has it.

    Raises
    ------
    TrackingError
        If the store does not take it.
    """
    run = tracked.client.get_run(tracked.run_id)
    if _MODEL_TAG in run.data.tags:
        return
    # Reading compares the hashes: a bundle that a power cut damaged is not logged.
    n_regions = len(read_bundle(folder).atlas.regions)
    counts: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype("int64"), (-1, n_regions), k) for k in ("methylated", "coverage")
    ]
    output: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.long, "sample"),
        ColSpec(DataType.string, "tissue"),
        ColSpec(DataType.double, "proportion"),
        ColSpec(DataType.string, "call"),
        *(ColSpec(DataType.double, name, required=False) for name in CERTAINTY_COLUMNS),
    ]
    with (
        tracking_errors("cannot log the model"),
        tracked.waiting(),
        mlflow.start_run(run_id=tracked.run_id),
    ):
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"bundle": str(folder)},
            input_example={
                "methylated": np.zeros((1, n_regions), dtype=np.int64),
                "coverage": np.ones((1, n_regions), dtype=np.int64),
            },
            signature=ModelSignature(Schema(counts), Schema(output)),
            pip_requirements=_REQUIREMENTS,
            step=step,
        )
    tracked.set_tags({_MODEL_TAG: str(info.model_uri)})


def fetch_model(uri: str) -> Path:
    """Return the local folder of a registered model's bundle; nothing in it is executed.

    Raises
    ------
    ConfigError
        If the registry has no such model.
    """
    try:
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    except (MlflowException, OSError) as error:
        raise ConfigError(
            "cannot fetch the model", where=mlflow.get_registry_uri(),
            got=f"{uri}: {str(error).splitlines()[0]}",
            expected=f"a model such as models:/{MODEL_NAME}@{PRODUCTION} (see deconv promote)",
        ) from error  # fmt: skip
    bundle = folder / "artifacts" / "bundle"
    return bundle if bundle.is_dir() else folder


def registered_version(uri: str) -> str | None:
    """Return the version that a model's URI names, None if it is not one of the registry.

    Raises
    ------
    TrackingError
        If the registry cannot be read.
    """
    found = re.fullmatch(r"models:/([^/@]+)(?:@(.+)|/(\d+))", uri)
    if found is None or found[3]:
        return found and found[3]
    with tracking_errors("cannot read the registry"):
        return str(MlflowClient().get_model_version_by_alias(found[1], found[2]).version)


def promote(run_id: str) -> Decision:
    """Register a run's sparse model, and make it `production` if it meets every rule.

    The version replaced keeps the alias `previous`.

    Raises
    ------
    ConfigError
        If the run is not finished or has no model.
    """
    client = MlflowClient()
    run = _finished_run(client, run_id)
    champion = production_run(client)
    verdicts = [
        check_sparse(run.data.params),
        *check_limits(run.data.metrics, load_gates()),
    ]
    if champion is None:
        verdicts.append(check_against_champion(run.data.metrics, None, None, None))
    elif champion.info.run_id != run_id:
        verdicts.append(
            check_against_champion(
                run.data.metrics, test_set(run), champion.data.metrics, test_set(champion)
            )
        )
    sparse = verdicts[0]
    decision = Decision(run_id, verdicts, _register(client, run) if sparse.passed else None)
    if decision.version is None or not decision.promoted:
        return decision
    version = decision.version
    previous = _alias(client, PRODUCTION)
    client.set_registered_model_alias(MODEL_NAME, PRODUCTION, version)
    if previous not in (None, version):
        client.set_registered_model_alias(MODEL_NAME, PREVIOUS, previous)
    return decision


def best_sparse_run(experiment: str) -> str:
    """Return the id of the finished two-stage run with the smallest validation error.

    Raises
    ------
    ConfigError
        If there is none.
    """
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
    runs = mlflow.search_runs(
        experiment_names=[name],
        filter_string=f"attributes.status = 'FINISHED' AND tags.sparse = 'true' "
        f"AND tags.`{_MODEL_TAG}` LIKE '%'",
        order_by=["metrics.`best/val/mae` ASC"],
        max_results=1,
        output_format="list",
    )
    if not runs:
        raise ConfigError("no finished sparse run", where=f"experiment {name}")
    return str(runs[0].info.run_id)


def test_set(run: Run) -> str | None:
    """Return the digest of the test mixtures of a run."""
    for entry in run.inputs.dataset_inputs if run.inputs is not None else []:
        if entry.dataset.name == "test":
            return str(entry.dataset.digest)
    return None


def production_run(client: MlflowClient) -> Run | None:
    """Return the run behind the alias `production`, if it is set."""
    version = _alias(client, PRODUCTION)
    if version is None:
        return None
    return client.get_run(str(client.get_model_version(MODEL_NAME, version).run_id))


def _finished_run(client: MlflowClient, run_id: str) -> Run:
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise ConfigError("no such run", where=mlflow.get_tracking_uri(), got=run_id) from error
    if run.info.status != "FINISHED" or _MODEL_TAG not in run.data.tags:
        raise ConfigError("the run has no finished model", where=run_id, got=run.info.status)
    return run


def _register(client: MlflowClient, run: Run) -> str:
    """Register the run's model, once."""
    same_run = f"name = '{MODEL_NAME}' and run_id = '{run.info.run_id}'"
    for version in client.search_model_versions(same_run):
        return str(version.version)
    tags: dict[str, Any] = {
        "run_id": run.info.run_id,
        "git.commit": run.data.tags.get("git.commit", "unknown"),
    }
    if "test/mae" in run.data.metrics:  # a run may have had no donors to test on
        tags["test/mae"] = f"{run.data.metrics['test/mae']:.6f}"
    try:
        client.create_registered_model(MODEL_NAME)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    uri = run.data.tags[_MODEL_TAG]
    registered = client.create_model_version(
        MODEL_NAME,
        uri,
        run_id=run.info.run_id,
        tags=tags,
        model_id=uri.removeprefix("models:/"),
    )
    return str(registered.version)


def _alias(client: MlflowClient, alias: str) -> str | None:
    try:
        return str(client.get_model_version_by_alias(MODEL_NAME, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise DeconvError("cannot read the registry", got=str(error).splitlines()[0]) from error
