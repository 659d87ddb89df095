"""The folder of a run: its configuration, checkpoints, record of metrics, and results.

``config.yaml`` and ``run.json`` say what it is, so that ``--resume`` needs nothing else;
``spool.jsonl`` is the record, ``sent.json`` what the tracking stores have of it; ``lock`` keeps a
second process out.
"""

import fcntl
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pandas as pd
import torch
import yaml

from deconv.errors import ConfigError, MismatchError
from deconv.files import disk_errors, write_text
from deconv.train import Metrics
from experiments.alerts import DELIVERED
from experiments.config import RunConfig, validate_config
from experiments.data import RunData
from experiments.lineage import opening_lines, write_lineage
from experiments.mlflow_model import MODEL_FOLDER
from experiments.sent import SENT, known_run_ids
from experiments.spool import SPOOL, Spool
from experiments.sync import SENDING
from experiments.tracking import TrackedRun

_OWN_FILES = {"run.json", "lock", SPOOL, SENT, SENDING, DELIVERED}
_OWN_FOLDERS = {"bundle", "tensorboard", MODEL_FOLDER}


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
        for file in Path(directory).glob(f"*/{SENT}"):
            if run in known_run_ids(file.parent):
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
        """Begin the run's record, or go on with it; no tracking store is waited for.

        Raises
        ------
        MismatchError
            If the data are not those that the run began with.
        InputError
            If the record is damaged.
        """
        file = self.path / "run.json"
        if file.exists():
            begun = json.loads(file.read_text())
            if begun["data"] != data.pure.content_hash:
                raise MismatchError(
                    "the data changed since the run began", where=config.data.path,
                    got=data.pure.content_hash[:12], expected=begun["data"][:12],
                )  # fmt: skip
            if not (self.path / SPOOL).exists():
                raise ConfigError(
                    "the run was begun by an earlier version", where=self.path, expected=SPOOL
                )
        tracked = TrackedRun(
            self.path,
            opening_lines(self.path, config, data, dtype),
            wait=config.output.wait_for_server,
            alerts=config.output.alerts,
        )
        if not file.exists():
            write_text(file, json.dumps({"data": data.pure.content_hash}))
        tracked.log_files(write_lineage(self.path))
        return tracked

    @contextmanager
    def ending(self, tracked: TrackedRun) -> Iterator[None]:
        """Record how the run ended; one that ends otherwise can be resumed."""
        hint = f"space to write; then deconv train --resume {self.path}"
        try:
            with disk_errors(self.path, hint):
                yield
        except BaseException as error:
            tracked.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
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

    def loss_trend(self, spool: Spool) -> float:
        """Return the validation loss of the last third of the epochs over that of the first.

        Its mixtures are always the same; each epoch of training has virtual donors of its own.
        """
        points = [spool.points[step] for step in sorted(spool.points)]
        losses = [metrics["val/loss"] for metrics in points if "val/loss" in metrics]
        third = max(len(losses) // 3, 1)
        return sum(losses[-third:]) / sum(losses[:third])

    def artifacts(self) -> list[str]:
        """Return the files, relative to the folder, that belong into MLflow."""
        files = (p.relative_to(self.path) for p in self.path.rglob("*") if p.is_file())
        return sorted(
            str(p)
            for p in files
            if p.name not in _OWN_FILES and p.parts[0] not in _OWN_FOLDERS and p.name[0] != "."
        )


def run_id_of(run: str, directory: str) -> str:
    """Return the MLflow id of a run given as folder, name or id."""
    try:
        folder = RunFolder.find(run, directory).path
    except ConfigError:
        return run  # of a run made elsewhere; the tracking store knows it or refuses
    for run_id in known_run_ids(folder):
        return run_id
    raise ConfigError(
        "no tracking store knows the run yet", where=folder, expected=f"deconv sync {folder}"
    )


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
        rows = [{"epoch": n, **points[n]} for n in sorted(points)]
        write_text(self._folder / "training_log.csv", pd.DataFrame(rows).to_csv(index=False))
        if self._add_scalar is not None:
            for name, value in metrics.items():
                self._add_scalar(name, value, step)
        self._report(step, dict(metrics))
