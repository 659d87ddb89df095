"""From a line of a run's record to calls of MLflow; saying it twice changes nothing.

| kind | data |
| --- | --- |
| run | version, spool_id, name, experiment, experiment_id, tags |
| params | params |
| datasets | datasets, as `dataset_data` gives them |
| metrics, summary | step, metrics; a summary belongs to the run as a whole |
| tags | tags |
| file | path in the run's folder, sha256 |
| model | name, step, tags, files: by place in the model, path and sha256 |
| status | RUNNING, FINISHED, FAILED or KILLED |
| alert | event, message, epoch |
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.entities import (
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)
from mlflow.models import Model
from mlflow.tracking import MlflowClient

from deconv.files import file_hash
from experiments.own_run import SPOOL_TAG, find_or_make_experiment, find_own_run
from experiments.run_datasets import log_datasets
from experiments.spool import Entry
from experiments.store import RefusedError, artifact_errors

MODEL_TAG = "model_uri"
_POINTS = ("metrics", "summary")
_MAX_BATCH = 1000  # metrics in a log_batch call, MLflow's limit


def batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yield what one call takes: metrics of several epochs, or one line of another kind."""
    batch: list[Entry] = []
    n_metrics = 0
    for entry in entries:
        n_new = len(entry.data["metrics"]) if entry.kind in _POINTS else _MAX_BATCH
        if batch and n_metrics + n_new > _MAX_BATCH:
            yield batch
            batch, n_metrics = [], 0
        batch.append(entry)
        n_metrics += n_new
    if batch:
        yield batch


class Replay:
    """Tells one store what one run recorded.

    Parameters
    ----------
    folder
        Of the run.
    entries
        The whole record.
    run_id
        MLflow's, empty until the first line was told.
    """

    def __init__(
        self, client: MlflowClient, folder: Path, entries: Sequence[Entry], run_id: str
    ) -> None:
        self._client, self._folder, self._entries = client, folder, entries
        self.run_id = run_id

    def tell(self, batch: Sequence[Entry]) -> None:
        """Tell the store a batch of lines.

        Raises
        ------
        TrackingError
            Of a file that is no longer what was recorded, or that the artifact store refuses.
        MlflowException, OSError, SQLAlchemyError
            If the store is away or refuses.
        """
        if batch[0].kind in _POINTS:
            points = [metric for entry in batch for metric in self._metrics(entry)]
            for first in range(0, len(points), _MAX_BATCH):
                part = points[first : first + _MAX_BATCH]
                self._client.log_batch(self.run_id, metrics=part)
            return
        (entry,) = batch
        getattr(self, f"_{entry.kind}")(entry, **entry.data)

    def _run(
        self, entry: Entry, *, version: int, spool_id: str, name: str, experiment: str,
        experiment_id: str | None, tags: Mapping[str, str],
    ) -> None:  # fmt: skip
        experiment_id = experiment_id or find_or_make_experiment(self._client, experiment)
        self.run_id = find_own_run(self._client, experiment_id, spool_id)
        if not self.run_id:
            self._client.create_run(
                experiment_id, start_time=entry.at, run_name=name,
                tags={**tags, SPOOL_TAG: spool_id},
            )  # fmt: skip
            self.run_id = find_own_run(self._client, experiment_id, spool_id)

    def _params(self, entry: Entry, *, params: Mapping[str, str]) -> None:
        self._client.log_batch(self.run_id, params=[Param(k, v) for k, v in params.items()])

    def _datasets(self, entry: Entry, *, datasets: list[dict[str, str]]) -> None:
        log_datasets(self._client, self.run_id, datasets)

    def _metrics(self, entry: Entry, model_id: str | None = None) -> list[Metric]:
        step = entry.data["step"]
        return [
            Metric(k, v, entry.at, step, model_id=model_id, run_id=model_id and self.run_id)
            for k, v in entry.data["metrics"].items()
        ]

    def _tags(self, entry: Entry, *, tags: Mapping[str, str]) -> None:
        self._client.log_batch(self.run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def _alert(self, entry: Entry, *, event: str, message: str, epoch: int) -> None:
        self._client.log_batch(self.run_id, tags=[RunTag(f"alert.{event}", message)])

    def _status(self, entry: Entry, *, status: str) -> None:
        if status == "RUNNING":
            self._client.update_run(self.run_id, status=status)
        else:
            self._client.set_terminated(self.run_id, status, end_time=entry.at)

    def _file(self, entry: Entry, *, path: str, sha256: str) -> None:
        if any(e.kind == "file" and e.key == path for e in self._entries[entry.seq :]):
            return  # a later line has what it became
        file = self._checked(path, sha256)
        with artifact_errors(path, self._client.tracking_uri):
            self._client.log_artifact(self.run_id, str(file), _parent(path))

    def _model(
        self, entry: Entry, *, name: str, step: int, tags: Mapping[str, str],
        files: Mapping[str, Mapping[str, str]],
    ) -> None:  # fmt: skip
        """Make a LoggedModel of the run, with the metrics of its epoch."""
        run = self._client.get_run(self.run_id)
        own = f"{run.data.tags[SPOOL_TAG]}:{entry.seq}"
        same_tag = self._client.search_logged_models(
            [run.info.experiment_id], f"tags.`{SPOOL_TAG}` = '{own}'"
        )
        found = [model for model in same_tag if model.source_run_id == self.run_id]
        model = found[0] if found else self._client.create_logged_model(
            run.info.experiment_id, name, self.run_id, tags={**tags, SPOOL_TAG: own}
        )  # fmt: skip
        known = [m.model_id for m in run.outputs.model_outputs] if run.outputs else []
        if model.model_id not in known:
            self._client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step)])
        for place, file in files.items():
            path = self._checked(file["path"], file["sha256"])
            uri = self._client.tracking_uri
            with artifact_errors(file["path"], uri), TemporaryDirectory() as temporary:
                if place == "MLmodel":
                    path = _named_model(path, Path(temporary), self.run_id, model)
                self._client.log_model_artifact(model.model_id, str(path), _parent(place))
        self._client.finalize_logged_model(model.model_id, "READY")
        # The points that the run has already, once more as the model's.
        points = [e for e in self._entries if e.kind in _POINTS and e.data["step"] == step]
        for point in points:
            self._client.log_batch(self.run_id, metrics=self._metrics(point, model.model_id))
        self._client.log_batch(self.run_id, tags=[RunTag(MODEL_TAG, model.model_uri)])

    def _checked(self, path: str, sha256: str) -> Path:
        file = self._folder / path
        try:
            is_same = file_hash(file) == sha256
        except OSError as error:
            raise RefusedError("the file cannot be read", where=file, got=error) from error
        if not is_same:
            raise RefusedError("the file changed after it was recorded", where=file)
        return file


def _named_model(path: Path, folder: Path, run_id: str, logged: Any) -> Path:
    """Copy an ``MLmodel`` with the ids that the store gave."""
    model = Model.load(str(path))
    model.run_id, model.model_id, model.model_uuid = run_id, logged.model_id, logged.model_id
    model.artifact_path = logged.artifact_location
    model.save(str(folder / path.name))
    return folder / path.name


def _parent(path: str) -> str | None:
    parent = Path(path).parent.as_posix()
    return None if parent == "." else parent
