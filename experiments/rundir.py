"""The folder of a run: its configuration, checkpoints, record of metrics, and results.

``config.yaml`` and ``run.json`` say what it is, so that ``--resume`` needs nothing else;
``metrics.jsonl`` is the spool; ``lock`` keeps a second process out.
"""

import fcntl
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import pandas as pd
import torch
import yaml
from mlflow.tracking import MlflowClient

from deconv.errors import ConfigError, MismatchError
from deconv.files import write_text
from deconv.train import Metrics
from experiments.config import RunConfig, validate_config
from experiments.data import RunData
from experiments.labels import run_params, run_tags
from experiments.provenance import code_tags, machine_tags
from experiments.spool import MetricSpool
from experiments.tracking import TrackedRun, TrackingError, create_run, dataset_input, reopen_run

_OWN_FILES = {"run.json", "lock", "metrics.jsonl"}
_OWN_FOLDERS = {"bundle", "tensorboard"}


class RunFolder:
    """A run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, config: RunConfig, name: str) -> "RunFolder":
        """Make the folder of a new run, named by configuration and time."""
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        path = Path(config.output.directory) / f"{name}-{stamp}-{uuid.uuid4().hex[:4]}"
        path.mkdir(parents=True)
        write_text(path / "config.yaml", yaml.safe_dump(config.model_dump(mode="json")))
        return cls(path)

    @classmethod
    def find(cls, run: str, directory: str) -> "RunFolder":
        """Find a run by folder, by name in ``directory``, or by MLflow run id.

        Raises
        ------
        ConfigError
            If there is none.
        """
        for path in (Path(run), Path(directory) / run):
            if (path / "config.yaml").is_file():
                return cls(path)
        for file in Path(directory).glob("*/run.json"):
            if json.loads(file.read_text())["run_id"] == run:
                return cls(file.parent)
        raise ConfigError(
            "no such run", got=run, expected=f"a run's folder, its name in {directory}, or its id"
        )

    def config(self) -> RunConfig:
        """Return the configuration that the run began with."""
        file = self.path / "config.yaml"
        return validate_config(yaml.safe_load(file.read_text()), file)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of this run; a dead process holds nothing."""
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError("another process is at this run", where=self.path) from error
            yield

    def open_tracking(self, config: RunConfig, data: RunData, dtype: torch.dtype) -> TrackedRun:
        """Create the MLflow run, or go on with the one that this folder began.

        Raises
        ------
        MismatchError
            If the data are not those that the run began with.
        TrackingError
            If the store cannot be reached, or is another.
        """
        file = self.path / "run.json"
        if file.exists():
            begun = json.loads(file.read_text())
            if begun["data"] != data.pure.content_hash:
                raise MismatchError(
                    "the data changed since the run began", where=config.data.path,
                    got=data.pure.content_hash[:12], expected=begun["data"][:12],
                )  # fmt: skip
            reopen_run(begun["run_id"])
            run_id = begun["run_id"]
        else:
            run_id = create_run(
                self.path.name,
                config.output.experiment,
                params=run_params(config),
                tags=self._tags(config, data, dtype),
                datasets=[
                    dataset_input(name, counts, context=name, source=str(config.data.path))
                    for name, counts in (
                        ("train", data.split.train),
                        ("validation", data.validation),
                        ("test", data.test),
                    )
                    if counts is not None
                ],
            )
            write_text(file, json.dumps({"run_id": run_id, "data": data.pure.content_hash}))
        return TrackedRun(MlflowClient(), run_id, MetricSpool(self.path / "metrics.jsonl"))

    def _tags(self, config: RunConfig, data: RunData, dtype: torch.dtype) -> dict[str, str]:
        return {
            **code_tags(),
            **machine_tags(),
            **run_tags(config, self.path.name, data.atlas),
            "designs": ",".join(config.data.mixtures.designs),
            "data.sha256": data.pure.content_hash,
            "atlas.sha256": data.atlas.content_hash,
            "precision": str(dtype).removeprefix("torch."),
            "run_folder": str(self.path.resolve()),
        }

    @contextmanager
    def ending(self, tracked: TrackedRun) -> Iterator[None]:
        """Tell MLflow how the run ended; one that ends otherwise can be resumed."""
        try:
            yield
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            # What went wrong matters more than a store that does not hear of it.
            with suppress(TrackingError):
                tracked.finish("KILLED" if stopped else "FAILED")
            raise
        tracked.finish("FINISHED")

    @contextmanager
    def recorder(
        self,
        tracked: TrackedRun,
        config: RunConfig,
        report: Callable[[int, dict[str, float]], None],
    ) -> Iterator["EpochRecorder"]:
        """Yield what records an epoch everywhere: spool, MLflow, CSV, TensorBoard, people."""
        if not config.output.tensorboard:
            yield EpochRecorder(tracked, self.path, report, None)
            return
        try:
            from torch.utils.tensorboard import SummaryWriter  # an optional extra
        except ImportError as error:
            raise ConfigError(
                "TensorBoard is not installed", where="output.tensorboard",
                expected="pip install tensorboard, or false",
            ) from error  # fmt: skip
        with SummaryWriter(str(self.path / "tensorboard")) as writer:
            yield EpochRecorder(tracked, self.path, report, writer.add_scalar)

    def loss_trend(self, spool: MetricSpool) -> float:
        """Return the validation loss of the last third of the epochs over that of the first.

        Its mixtures are always the same; each epoch of training has virtual donors of its own.
        """
        points = [spool.points[step].metrics for step in sorted(spool.points) if step > 0]
        losses = [metrics["val/loss"] for metrics in points if "val/loss" in metrics]
        third = max(len(losses) // 3, 1)
        return sum(losses[-third:]) / sum(losses[:third])

    def artifacts(self) -> list[str]:
        """Return the files, relative to the folder, that belong into MLflow."""
        files = (p.relative_to(self.path) for p in self.path.rglob("*") if p.is_file())
        return sorted(
            str(p) for p in files if p.name not in _OWN_FILES and p.parts[0] not in _OWN_FOLDERS
        )


def run_id_of(run: str, directory: str) -> str:
    """Return the MLflow id of a run given as folder, name or id."""
    try:
        file = RunFolder.find(run, directory).path / "run.json"
    except ConfigError:
        return run  # of a run made elsewhere; the tracking store knows it or refuses
    return str(json.loads(file.read_text())["run_id"])


class EpochRecorder:
    """Records an epoch durably before it is shown."""

    def __init__(
        self,
        tracked: TrackedRun,
        folder: Path,
        report: Callable[[int, dict[str, float]], None],
        add_scalar: Callable[[str, float, int], None] | None,
    ) -> None:
        self._tracked, self._folder, self._report = tracked, folder, report
        self._add_scalar = add_scalar

    def log_metrics(self, metrics: Metrics, *, step: int) -> None:
        """Record an epoch."""
        self._tracked.log_metrics(metrics, step=step)
        points = self._tracked.spool.points
        rows = [{"epoch": n, **points[n].metrics} for n in sorted(points) if n > 0]
        write_text(self._folder / "training_log.csv", pd.DataFrame(rows).to_csv(index=False))
        if self._add_scalar is not None:
            for name, value in metrics.items():
                self._add_scalar(name, value, step)
        self._report(step, dict(metrics))
