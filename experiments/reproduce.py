"""A run made again from what it logged, and whether the result is the same.

On the same machine with as many threads it has to be equal to the last bit. Elsewhere sums are
rounded in another order, so it has to be near.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
import yaml
from mlflow.entities import Run

from deconv.errors import ConfigError, MismatchError
from experiments.ancestry import CONFIG, DIFF
from experiments.config import RunConfig, validate_config, with_data
from experiments.data import load_run_data
from experiments.launch import train_and_report
from experiments.prepare import pick_device
from experiments.provenance import code_diff, code_tags, machine_tags
from experiments.reading import run_artifact

RELATIVE, ABSOLUTE = 0.02, 0.001
"""How near is near, where bits cannot be equal (one thread or two, 80 steps: 5e-5 relative)."""
_LOG = "training_log.csv"


@dataclass(frozen=True)
class Condition:
    """One thing that a result depends on: as it was, and as it is here."""

    name: str
    was: str
    now: str

    @property
    def is_same(self) -> bool:
        """Whether it is as it was."""
        return self.was == self.now


@dataclass(frozen=True)
class Difference:
    """A metric, at an epoch or of the whole run, that is not as it was logged."""

    name: str
    logged: float | None
    found: float | None


@dataclass(frozen=True)
class Plan:
    """What it takes to repeat a run here."""

    run: Run
    config: RunConfig
    log: pd.DataFrame
    conditions: list[Condition]

    @property
    def differing(self) -> list[Condition]:
        """Conditions that are not as they were."""
        return [condition for condition in self.conditions if not condition.is_same]

    @property
    def is_exact(self) -> bool:
        """Whether the result has to be equal to the last bit."""
        return not self.differing and self.run.data.tags.get("device") == "cpu"


def plan(run: Run, *, data: str | None = None) -> Plan:
    """Fetch a run's configuration and compare its conditions with those here.

    PyTorch is set to as many threads as the run had.

    Parameters
    ----------
    data
        Where the run's data lie now, if not where they were.

    Raises
    ------
    ConfigError
        If the run is not finished, or lacks its configuration or log.
    MismatchError
        If the data are not those of the run.
    DeconvError
        If the data cannot be read.
    """
    if run.info.status != "FINISHED":
        raise ConfigError(
            "the run is not finished: there is no result to compare with",
            where=run.info.run_name, got=run.info.status,
        )  # fmt: skip
    config = validate_config(_yaml(run), f"{run.info.run_name}: {CONFIG}")
    if data is not None:
        config = with_data(config, data)
    with TemporaryDirectory() as folder:
        log = pd.read_csv(_artifact(run, _LOG, Path(folder)))
        diff_file = run_artifact(run, DIFF, Path(folder))
        diff = "" if diff_file is None else diff_file.read_text()
    device = pick_device(run.data.tags.get("device", "auto"))
    if run.data.tags.get("threads", "").isdigit():
        torch.set_num_threads(int(run.data.tags["threads"]))
    found = load_run_data(config, device).pure.content_hash
    logged = run.data.tags.get("data.sha256")
    if found != logged:
        raise MismatchError(
            "these are not the run's data: the result cannot be the same", where=config.data.path,
            got=found[:12], expected=(logged or "unknown")[:12],
        )  # fmt: skip
    return Plan(run, config, log, _conditions(run, diff))


def repeat(chosen: Plan, directory: Path) -> tuple[Path, list[Difference]]:
    """Train again, and return the new run's folder and what is not as it was logged.

    Raises
    ------
    DeconvError
        If training fails.
    """
    tags = chosen.run.data.tags
    name = tags.get("config", "run")
    directory.mkdir(parents=True, exist_ok=True)
    source = directory / f"{name}.yaml"
    output = {**chosen.config.output.model_dump(mode="json"), "directory": str(directory)}
    content = {**chosen.config.model_dump(mode="json"), "output": output}
    source.write_text(yaml.safe_dump(content))
    result = train_and_report(str(source), device=tags.get("device", "auto"))
    log = pd.read_csv(result.folder / _LOG)
    differences = compare_metrics(
        chosen.run.data.metrics, result.metrics, exact=chosen.is_exact
    ) + compare_logs(chosen.log, log, exact=chosen.is_exact)
    return result.folder, differences


def compare_metrics(
    logged: Mapping[str, float], found: Mapping[str, float], *, exact: bool
) -> list[Difference]:
    """Return the metrics of ``found`` that are not as logged.

    If not ``exact``, those within `RELATIVE` or `ABSOLUTE` count as equal, and the best epoch
    may be another.
    """
    pairs = {k: (logged.get(k), v) for k, v in found.items() if exact or k != "best/epoch"}
    return [Difference(k, a, b) for k, (a, b) in pairs.items() if not _agree(a, b, exact)]


def compare_logs(logged: pd.DataFrame, found: pd.DataFrame, *, exact: bool) -> list[Difference]:
    """Return the points of two training logs that differ, in the sense of `compare_metrics`."""
    before, after = (table.set_index("epoch") for table in (logged, found))
    differences = []
    for epoch in sorted({*before.index, *after.index}):
        values: list[dict[Any, Any]] = [
            table.loc[epoch].to_dict() if epoch in table.index else {} for table in (before, after)
        ]
        for name in dict.fromkeys([*values[0], *values[1]]):
            a, b = (v.get(name) for v in values)
            if not _agree(a, b, exact):
                differences.append(Difference(f"{name}, epoch {epoch}", a, b))
    return differences


def _agree(a: float | None, b: float | None, exact: bool) -> bool:
    if a is None or b is None:
        return False
    if a == b or (math.isnan(a) and math.isnan(b)):
        return True
    return not exact and math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _conditions(run: Run, diff: str) -> list[Condition]:
    here = {**code_tags(), **machine_tags(), "threads": str(torch.get_num_threads())}
    names = ["git.commit", *sorted(k for k in here if k.startswith("version.")), "host", "threads"]
    conditions = [Condition(k, run.data.tags.get(k, "unknown"), here[k]) for k in names]
    now = code_diff()
    same = "none" if not diff else "the run's"
    conditions.append(Condition("code changed since", same, same if now == diff else "other"))
    return conditions


def _yaml(run: Run) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        content = yaml.safe_load(_artifact(run, CONFIG, Path(folder)).read_text())
    return content if isinstance(content, dict) else {}


def _artifact(run: Run, name: str, folder: Path) -> Path:
    file = run_artifact(run, name, folder)
    if file is None:
        raise ConfigError("the run has no such file", where=run.info.run_name, got=name)
    return file
