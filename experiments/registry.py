"""The model registry: find and register the models of runs."""

import os
from collections.abc import Mapping

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from deconv.bundle import Bundle
from deconv.errors import CheckpointError, ConfigError
from experiments.fetch import open_registered
from experiments.lease import unless_there
from experiments.names import BUNDLE_HASH, MODEL_NAME
from experiments.reading import quoted
from experiments.replay import MODEL_TAG
from experiments.store import require_answer, store_name, tracking_errors

_ABOUT = (
    "Sparse deconvolution of DNA methylation mixtures. `production` met every rule of "
    "mlruns_config/gates.yaml; `deconv promote` and `deconv rollback` move it."
)
_LINEAGE = {
    "git.commit",
    "git.dirty",
    "code.release",
    "data.sha256",
    "atlas.sha256",
    "version.deconv",
}
_PAGE = 1000
SHOWN = ("test/mae", "test/presence_f1", "test/spurious_mass", "best/val/mae")


@tracking_errors("cannot look for runs")
def sparse_runs(experiment: str, study: str | None = None) -> list[str]:
    """Return the ids of the finished two-stage runs, that of the smallest validation error first.

    Parameters
    ----------
    study
        Value of the tag `study`: only its runs are considered.

    Raises
    ------
    ConfigError
        If there is none.
    TrackingError
        If the store cannot be read.
    """
    require_answer()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
    of_study = "" if study is None else f" AND tags.study = {quoted(study)}"
    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    runs: list[Run] = []
    token = None
    while found is not None:
        page = client.search_runs(
            [found.experiment_id],
            "attributes.status = 'FINISHED' AND tags.sparse = 'true' "
            f"AND tags.`{MODEL_TAG}` LIKE '%'{of_study}",
            order_by=["metrics.`best/val/mae` ASC"],
            max_results=_PAGE,
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            break
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
    """Register the run's model, once, and return its version.

    Parameters
    ----------
    tags
        Hashes of its files. A version that others registered, such as MLflow's own page, has
        none, and one of other files is not this one.
    """
    known = find_version(client, run, tags)
    if known is not None:
        return known
    facts = dict(tags) | {k: v for k, v in run.data.tags.items() if k in _LINEAGE}
    metrics = run.data.metrics  # a run may have had no donors to test on
    facts |= {k: f"{metrics[k]:.6g}" for k in SHOWN if k in metrics}
    make_model(client)
    uri = model_uri(run)
    registered = client.create_model_version(
        MODEL_NAME, uri, run_id=run.info.run_id, tags=facts, description="not judged yet",
        model_id=uri.removeprefix("models:/"),
    )  # fmt: skip
    # MLflow's client asks again where an answer was lost, and so may make two.
    return find_version(client, run, tags) or str(registered.version)


def verify(client: MlflowClient, version: str) -> Bundle:
    """Check that a version is complete and the one that was registered.

    Raises
    ------
    CheckpointError
        If it is not.
    """
    if BUNDLE_HASH not in client.get_model_version(MODEL_NAME, version).tags:
        raise CheckpointError(
            "it is not known which files were registered", where=f"{MODEL_NAME} {version}"
        )
    return open_registered(MODEL_NAME, version)


def make_model(client: MlflowClient) -> None:
    """Make the registered model, if it is not there."""
    with unless_there():
        client.create_registered_model(MODEL_NAME, description=_ABOUT)


def find_version(client: MlflowClient, run: Run, tags: Mapping[str, str]) -> str | None:
    """Return the version of a run's model, None if it is not registered; `tags` as `register`."""
    found = client.search_model_versions(f"name = '{MODEL_NAME}' and run_id = '{run.info.run_id}'")
    same = [  # those registered earlier have fewer hashes
        str(v.version)
        for v in found
        if BUNDLE_HASH in v.tags and all(v.tags.get(k, h) == h for k, h in tags.items())
    ]
    return min(same, key=int, default=None)
