"""MLflow runs: created once, found again on resume, fed from the run's own spool."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from rich.console import Console

from deconv.counts import Samples
from deconv.errors import DeconvError
from deconv.train import Metrics
from experiments.spool import MetricSpool, Point

_MAX_BATCH = 1000  # metrics in a log_batch call, MLflow's limit


class TrackingError(DeconvError):
    """The tracking store cannot be reached or refuses; the run's folder has everything."""


@contextmanager
def tracking_errors(what: str, *, expected: str | None = None) -> Iterator[None]:
    """Turn the errors of MLflow and of the way to it into a `TrackingError`."""
    try:
        yield
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0]
        where = mlflow.get_tracking_uri()
        raise TrackingError(what, where=where, got=reason, expected=expected) from error


class TrackedRun:
    """One MLflow run and its local record.

    Metrics go to the spool first, then to MLflow with all that it has not taken yet: a
    store that is away delays points, it does not lose them or stop the training.
    """

    def __init__(self, client: MlflowClient, run_id: str, spool: MetricSpool) -> None:
        self.client, self.run_id, self.spool = client, run_id, spool
        self._unsent = [point for point in spool.points.values() if point.step >= 0]
        self._console = Console(stderr=True)
        self.seconds = 0.0
        """Time that the run has waited for the tracking store."""

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of a block as spent on tracking."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - begin

    def log_metrics(self, metrics: Metrics, *, step: int) -> None:
        """Record an epoch."""
        point = self.spool.append(metrics, step=step)
        if point not in self._unsent:
            self._unsent.append(point)
        try:
            self.send()
        except TrackingError as error:
            self._console.print(f"[yellow]kept for later:[/] {error}")

    def send(self) -> None:
        """Send what was not sent; sending a point again leaves no second one.

        Raises
        ------
        TrackingError
            If MLflow does not take them.
        """
        while self._unsent:
            taken = self._unsent[: max(_MAX_BATCH // max(len(self._unsent[0].metrics), 1), 1)]
            self._call("log_batch", self.run_id, metrics=[m for p in taken for m in _metrics(p)])
            self._unsent = self._unsent[len(taken) :]

    def log_summary(self, metrics: Metrics, *, step: int) -> None:
        """Record results that belong to the run as a whole, at the step of its best epoch."""
        point = self.spool.append(metrics, step=-1)
        stamped = [Metric(k, v, point.timestamp_ms, step) for k, v in point.metrics.items()]
        self._call("log_batch", self.run_id, metrics=stamped)

    def log_files(self, folder: Path, names: Iterable[str]) -> None:
        """Copy files to the run, at their place relative to ``folder``."""
        for name in names:
            parent = Path(name).parent.as_posix()
            place = None if parent == "." else parent
            self._call("log_artifact", self.run_id, str(folder / name), place)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags on the run."""
        self._call("log_batch", self.run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        self._call("set_terminated", self.run_id, status)

    def _call(self, name: str, *arguments: Any, **named: Any) -> None:
        what = "the tracking store did not take the data (they are kept in the run's folder)"
        with tracking_errors(what), self.waiting():
            getattr(self.client, name)(*arguments, **named)


def create_run(
    name: str, experiment: str, *, params: Mapping[str, Any], tags: Mapping[str, str],
    datasets: list[DatasetInput],
) -> str:  # fmt: skip
    """Create an MLflow run with its parameters, tags and inputs, and return its id.

    ``MLFLOW_EXPERIMENT_NAME`` and the other standard variables take precedence.

    Raises
    ------
    TrackingError
        If the store cannot be reached.
    """
    with tracking_errors("cannot create a run"):
        client = MlflowClient()
        experiment_id = os.environ.get("MLFLOW_EXPERIMENT_ID") or experiment_id_of(
            os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
        )
        run_id = str(client.create_run(experiment_id, run_name=name, tags=dict(tags)).info.run_id)
        client.log_batch(run_id, params=[Param(k, str(v)) for k, v in params.items()])
        client.log_inputs(run_id, datasets)
    return run_id


def experiment_id_of(name: str) -> str:
    """Return the id of an experiment, which is created if there is none."""
    return str(mlflow.set_experiment(name).experiment_id)


def reopen_run(run_id: str) -> None:
    """Set an interrupted run to running again.

    Raises
    ------
    TrackingError
        If the store does not know it.
    """
    what = f"cannot go on with MLflow run {run_id}"
    with tracking_errors(what, expected="the store in which the run began"):
        MlflowClient().update_run(run_id, status="RUNNING")


def dataset_input(name: str, counts: Samples, *, context: str, source: str) -> DatasetInput:
    """Describe counts as a dataset of a run, by content hash."""
    profile = {
        "samples": len(counts),
        "regions": len(counts.regions),
        "build": counts.regions.build,
        "mean_coverage": round(float(np.mean([c.mean() for _, c in counts.rows()])), 2),
        "sha256": counts.content_hash,
    }
    dataset = Dataset(
        name=name,
        digest=counts.content_hash[:16],
        source_type="local",
        source=json.dumps({"uri": source}),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", context)])


def _metrics(point: Point) -> list[Metric]:
    return [Metric(k, v, point.timestamp_ms, point.step) for k, v in point.metrics.items()]
