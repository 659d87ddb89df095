"""Runs as the tracking store has them, for commands that must start quickly.

Nothing here imports torch: a question about ten thousand runs is answered in the time that
loading it would take.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from deconv.errors import ConfigError
from experiments.sent import known_run_ids
from experiments.store import open_store, store_name, tracking_errors

DIRECTORY, EXPERIMENT = "runs", "sparse-deconvolution"
_RUN_ID = re.compile(r"[0-9a-f]{32}")


def find_run(run: str, directory: str = DIRECTORY) -> Run:
    """Return a run given by its folder, its name (in ``directory`` or in MLflow) or its id.

    Raises
    ------
    ConfigError
        If there is none, or several have this name.
    TrackingError
        If the store cannot be reached or does not have it.
    """
    client = open_store()
    for folder in (Path(run), Path(directory) / run):
        if (folder / "config.yaml").is_file():
            return _run_of_folder(client, folder)
    if _RUN_ID.fullmatch(run):
        with tracking_errors("cannot read the run"):
            return client.get_run(run)
    with tracking_errors("cannot look for the run"):
        everywhere = [e.experiment_id for e in client.search_experiments()]
        named = client.search_runs(
            everywhere, f"attributes.run_name = {quoted(run)}", max_results=10
        )
    if len(named) == 1:
        return named[0]
    if named:
        ids = ", ".join(r.info.run_id for r in named)
        raise ConfigError("several runs have this name", got=run, expected=f"one of {ids}")
    raise ConfigError(
        "no such run", where=store_name(), got=run,
        expected=f"a run's folder, its name (in {directory} or in MLflow), or its MLflow id",
    )  # fmt: skip


def experiment_ids(names: Sequence[str]) -> list[str]:
    """Return the ids of experiments.

    Raises
    ------
    ConfigError
        If there is none of that name.
    TrackingError
        If the store cannot be reached.
    """
    client = open_store()
    with tracking_errors("cannot read the experiments"):
        known = {e.name: e.experiment_id for e in client.search_experiments()}
    for name in names:
        if name not in known:
            raise ConfigError(
                "no such experiment", where=store_name(), got=name,
                expected=", ".join(sorted(known)),
            )  # fmt: skip
    return [known[name] for name in names]


def quoted(value: str) -> str:
    """Return a text as MLflow's search language reads it.

    Raises
    ------
    ConfigError
        If it has both kinds of quotation mark: the language has no way to say that.
    """
    mark = '"' if "'" in value else "'"
    if mark in value:
        raise ConfigError("cannot be searched for: has both kinds of quotation mark", got=value)
    return f"{mark}{value}{mark}"


def test_digest(run: Run) -> tuple[str, str] | None:
    """Return name and digest of the mixtures that a run's results are of.

    They are its test mixtures, or those of validation if it held out no donors for a test.
    """
    inputs = run.inputs.dataset_inputs if run.inputs is not None else []
    digests = {entry.dataset.name: str(entry.dataset.digest) for entry in inputs}
    for name in ("test", "validation"):
        if name in digests:
            return name, digests[name]
    return None


def run_artifact(run: Run, name: str, into: Path) -> Path | None:
    """Fetch a file of a run into a folder; None if the run has no such file.

    Raises
    ------
    TrackingError
        If the store of artifacts cannot be reached.
    """
    with tracking_errors("cannot fetch a file of the run"):
        parent = Path(name).parent.as_posix()
        listed = open_store().list_artifacts(run.info.run_id, None if parent == "." else parent)
        if name not in {item.path for item in listed}:
            return None
        return Path(
            mlflow.artifacts.download_artifacts(
                run_id=run.info.run_id, artifact_path=name, dst_path=str(into)
            )
        )


def _run_of_folder(client: MlflowClient, folder: Path) -> Run:
    for run_id in known_run_ids(folder):
        with tracking_errors("cannot read the run", expected="the store in which it was logged"):
            return client.get_run(run_id)
    raise ConfigError(
        "no tracking store knows the run yet", where=folder, expected=f"deconv sync {folder}"
    )
