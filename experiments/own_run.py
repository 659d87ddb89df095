"""The one run in a store that a record belongs to, found by the mark that it carries."""

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from experiments.store import TrackingError

SPOOL_TAG = "deconv.spool_id"


def find_or_make_experiment(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, which is made if it is not there.

    Raises
    ------
    TrackingError
        If it was deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return find_or_make_experiment(client, name)  # another was quicker
    if found.lifecycle_stage != "active":
        raise TrackingError(
            "the experiment was deleted", got=name,
            expected="one that is there (mlflow experiments restore)",
        )  # fmt: skip
    return str(found.experiment_id)


def find_own_run(client: MlflowClient, experiment_id: str, spool_id: str) -> str:
    """Return the id of the run that a record belongs to, empty if the store has none.

    Empty second ones, of a request that came twice, are dropped.
    """
    found: list[Run] = client.search_runs([experiment_id], f"tags.`{SPOOL_TAG}` = '{spool_id}'")
    if not found:
        return ""
    used = [run for run in found if run.data.params or run.data.metrics]
    kept = min((run.info.run_id for run in used or found), default="")
    for run in found:
        if run.info.run_id != kept and run not in used:
            client.delete_run(run.info.run_id)
    return str(kept)
