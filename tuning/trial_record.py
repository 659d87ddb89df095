"""The folder of a trial's run, and what is written on the run about the trial."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from deconv.files import file_hash, write_text
from experiments.config import RunConfig
from experiments.record import Notes, add_notes
from experiments.rundir import RunFolder
from tuning.study import Study

CURVE = "threshold_curve.csv"
"""Metrics at each threshold, in the folder of a trial's run."""


def trial_folder(study: Study, number: int, config: RunConfig | None = None) -> RunFolder:
    """Return the folder of a trial's run, made with its configuration if it is new."""
    path = study.run_folder(number)
    if config is not None and not (path / "config.yaml").exists():
        path.mkdir(exist_ok=True)
        write_text(path / "config.yaml", yaml.safe_dump(config.model_dump(mode="json")))
    return RunFolder(path)


def note(
    folder: Path,
    state: str,
    *,
    study: Study,
    number: int,
    reason: str | None = None,
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    files: tuple[str, ...] = (),
    status: str | None = None,
) -> None:
    """Write on a trial's run what became of it, if the run has begun."""
    if not (folder / "run.json").exists():
        return
    tags = {"trial.state": state, "trial.number": str(number)}
    if reason is not None:
        tags["trial.reason"] = reason
    hashed = {name: file_hash(folder / name) for name in files}
    metrics = metrics or {}
    notes = Notes(params or {}, tags, metrics, files=hashed, status=status)
    add_notes(folder, notes, patience=study.base.output.wait_for_server)
