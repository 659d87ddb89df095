"""The model registry: find and register the models of runs; fetch them for use."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from deconv.bundle import Bundle, bundle_hash, read_bundle
from deconv.errors import CheckpointError, ConfigError
from deconv.manifest import file_hash
from experiments.lease import unless_there
from experiments.names import BUNDLE_HASH, CODE_HASH, MODEL_NAME, PRODUCTION
from experiments.reading import quoted
from experiments.replay import MODEL_TAG
from experiments.store import (
    RefusedError,
    first_line,
    raise_denied,
    store_name,
    tracking_errors,
)

_ABOUT = (
    "Sparse deconvolution of DNA methylation mixtures. `production` met every rule of "
    "mlruns_config/gates.yaml; `deconv promote` and `deconv rollback` move it."
)
_USUAL = f"a model such as models:/{MODEL_NAME}@{PRODUCTION} (see deconv promote)"
_LINEAGE = {"git.commit", "git.dirty", "data.sha256", "atlas.sha256", "version.deconv"}
_REGISTERED = re.compile(r"models:/([^/@]+)(?:@([^/]+)|/(\d+))")
_SHOWN = ("test/mae", "test/presence_f1", "test/spurious_mass", "best/val/mae")


def fetch_model(uri: str) -> Path:
    """Return the local folder of a registered model's bundle; nothing in it is executed.

    Raises
    ------
    ConfigError
        If the registry has no such model.
    TrackingError
        If the registry does not let the user read it.
    """
    with no_model(uri):
        return bundle_in(Path(mlflow.artifacts.download_artifacts(artifact_uri=uri)))


def bundle_in(folder: Path) -> Path:
    """Return the bundle in the folder of an MLflow model."""
    bundle = folder / "artifacts" / "bundle"
    return bundle if bundle.is_dir() else folder


@contextmanager
def no_model(uri: str) -> Iterator[None]:
    """Turn the errors of fetching a model, but not those of the way, into a `ConfigError`."""
    try:
        yield
    except (MlflowException, OSError, RefusedError) as error:
        raise_denied(error, "cannot fetch the model")
        raise ConfigError(
            "cannot fetch the model", where=store_name(mlflow.get_registry_uri()),
            got=f"{uri}: {first_line(error)}",
            expected=_USUAL,
        ) from error  # fmt: skip


def is_registered(uri: str) -> bool:
    """Whether a model's URI is one of a version or alias in the registry."""
    return _REGISTERED.fullmatch(uri) is not None


def registry_name(uri: str) -> tuple[str, str | None, str | None]:
    """Return name, alias and version (one of them None) of a registered model's URI.

    Raises
    ------
    ConfigError
        If it is no such URI.
    """
    found = _REGISTERED.fullmatch(uri)
    if found is None:
        raise ConfigError(
            "not a registered model", got=uri,
            expected=f"models:/{MODEL_NAME}@{PRODUCTION}, or models:/{MODEL_NAME}/VERSION",
        )  # fmt: skip
    return found[1], found[2], found[3]


def registered_version(uri: str) -> str | None:
    """Return the version that a model's URI names, None if it is not one of the registry.

    Raises
    ------
    TrackingError
        If the registry cannot be read.
    """
    if not is_registered(uri):
        return None
    name, alias, version = registry_name(uri)
    if alias is None:
        return version
    with tracking_errors("cannot fetch the model", expected=_USUAL):
        return str(MlflowClient().get_model_version_by_alias(name, alias).version)


def open_registered(name: str, version: str) -> Bundle:
    """Fetch a version as a user would, and check that it is complete and the one registered.

    Who may write to a run's files may not write to the registry, which has their hash.

    Raises
    ------
    CheckpointError
        If it is not.
    """
    folder = fetch_model(f"models:/{name}/{version}")
    bundle = read_bundle(folder)
    with tracking_errors("cannot read the registry"):
        tags = MlflowClient().get_model_version(name, version).tags
    for tag, found in file_hashes(folder).items():
        if tags.get(tag, found) != found:
            raise CheckpointError(
                "the files are not those that were registered", where=f"{name} {version}",
                got=f"{tag} {found}", expected=tags[tag],
            )  # fmt: skip
    return bundle


def file_hashes(folder: Path) -> dict[str, str]:
    """Return tags with the hashes of a fetched bundle, and of the code that MLflow runs with it.

    Nothing here runs that code, but `mlflow models serve` does.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.parent.parent.glob("*.py")):
        digest.update(f"{path.name} {file_hash(path)}\n".encode())
    return {BUNDLE_HASH: bundle_hash(folder), CODE_HASH: digest.hexdigest()}


@tracking_errors("cannot look for runs")
def sparse_runs(experiment: str, study: str | None = None, *, n: int = 10) -> list[str]:
    """Return the ids of the finished two-stage runs, that of the smallest validation error first.

    Parameters
    ----------
    study
        Value of the tag `study`: only its runs are considered.
    n
        How many at most.

    Raises
    ------
    ConfigError
        If there is none.
    TrackingError
        If the store cannot be read.
    """
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
    of_study = "" if study is None else f" AND tags.study = {quoted(study)}"
    runs = mlflow.search_runs(
        experiment_names=[name],
        filter_string="attributes.status = 'FINISHED' AND tags.sparse = 'true' "
        f"AND tags.`{MODEL_TAG}` LIKE '%'{of_study}",
        order_by=["metrics.`best/val/mae` ASC"],
        max_results=n,
        output_format="list",
    )
    if not runs:
        where = f"experiment {name}" + ("" if study is None else f", study {study}")
        raise ConfigError("no finished sparse run", where=where)
    return [str(run.info.run_id) for run in runs]


def finished_run(client: MlflowClient, run_id: str) -> Run:
    """Return a run that is finished and has a model.

    Raises
    ------
    ConfigError
        If it is not, or there is no such run.
    """
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise ConfigError("no such run", where=store_name(), got=run_id) from error
    if run.info.status != "FINISHED" or MODEL_TAG not in run.data.tags:
        raise ConfigError("the run has no finished model", where=run_id, got=run.info.status)
    return run


def model_uri(run: Run) -> str:
    """Return the URI of the model that a run logged."""
    return str(run.data.tags[MODEL_TAG])


def register(client: MlflowClient, run: Run, tags: Mapping[str, str]) -> str:
    """Register the run's model, once, and return its version."""
    known = _first_version(client, run)
    if known is not None:
        return known
    facts = dict(tags) | {k: v for k, v in run.data.tags.items() if k in _LINEAGE}
    metrics = run.data.metrics  # a run may have had no donors to test on
    facts |= {k: f"{metrics[k]:.6g}" for k in _SHOWN if k in metrics}
    make_model(client)
    uri = model_uri(run)
    registered = client.create_model_version(
        MODEL_NAME, uri, run_id=run.info.run_id, tags=facts, description="not judged yet",
        model_id=uri.removeprefix("models:/"),
    )  # fmt: skip
    # MLflow's client asks again where an answer was lost, and so may make two.
    return _first_version(client, run) or str(registered.version)


def _first_version(client: MlflowClient, run: Run) -> str | None:
    found = client.search_model_versions(f"name = '{MODEL_NAME}' and run_id = '{run.info.run_id}'")
    return min((str(v.version) for v in found), key=int, default=None)


def make_model(client: MlflowClient) -> None:
    """Make the registered model, if it is not there."""
    with unless_there():
        client.create_registered_model(MODEL_NAME, description=_ABOUT)
