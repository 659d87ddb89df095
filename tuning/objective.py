"""One trial: a tracked run with the settings proposed, its best threshold, its score."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from optuna.trial import Trial

from deconv.checkpoint import load_checkpoint
from deconv.files import write_text
from deconv.parallel import Group
from experiments.config import RunConfig
from experiments.data import RunData, load_run_data
from experiments.prepare import PreparedRun, new_state
from experiments.run import BEST, run_training
from tuning.config import ObjectiveConfig
from tuning.space import suggest, threshold_distribution, thresholds
from tuning.storage import patiently
from tuning.study import Study
from tuning.trial_record import CURVE, note, trial_folder

CRITERIA = {
    "train/presence_accuracy": (0.9, None),
    "val/presence_accuracy": (0.9, None),
    "val/mae": (None, 0.05),
    "val/spurious_mass": (None, 0.05),
    "val/prediction_ratio": (0.9, 1.1),
}
"""The success criteria of the project that validation can tell: least and most."""


class PrunedError(KeyboardInterrupt):
    """The trial is hopeless. It ends its run as an interruption does: no failure."""


@dataclass(frozen=True)
class Outcome:
    """What a trial found."""

    values: list[float]
    threshold: float
    constraints: dict[str, float]
    metrics: dict[str, float]
    run_id: str | None
    tracking_seconds: float


class DataCache:
    """The data of the last run, which most trials of a study share."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._data: RunData | None = None

    def prepare(self, config: RunConfig, device: torch.device) -> PreparedRun:
        """Return a run that is ready to begin; errors as of `prepare_run`."""
        key = f"{config.data!r} {config.random_seed} {config.training.pure_sample_ratio} {device}"
        if self._data is None or key != self._key:
            self._data, self._key = load_run_data(config, device), key
        return PreparedRun(
            config, self._data, new_state(config, self._data, device), device, Group()
        )


def run_trial(
    study: Study,
    trial: Trial,
    data: DataCache,
    device: torch.device,
    *,
    check: Callable[[], None],
) -> Outcome:
    """Train a trial's run, or go on with it.

    Parameters
    ----------
    check
        Called between steps; raises to interrupt.

    Raises
    ------
    PrunedError
        If the pruner ends it.
    DeconvError
        If the run fails.
    """
    planned = study.plan[trial.number] if study.plan else None
    overrides = planned.overrides if planned else suggest(trial, study.config.space)
    config = study.run_config(list(overrides))
    folder = trial_folder(study, trial.number, config)
    prepared = data.prepare(config, device)
    single = study.config.objective.kind == "single"
    reported = dict(study.storage.get_trial(trial._trial_id).intermediate_values)

    def report(epoch: int, metrics: dict[str, float]) -> None:
        if not (single and "val/mae" in metrics):
            return
        if epoch not in reported:
            (value,) = objective_values(_plain(metrics, "val/"), study.config.objective)
            patiently(partial(trial.report, value, epoch))
        if epoch < config.training.num_epochs and patiently(trial.should_prune):
            raise PrunedError(f"pruned after epoch {epoch}")

    result = run_training(prepared, folder, report=report, advance=lambda steps: check())
    curve = score_thresholds(study, prepared, folder.path)
    best = best_row(curve, study.config.objective)
    metrics = {**result.metrics, **{f"val/{k}": v for k, v in best.items() if k != "threshold"}}
    metrics["train/presence_accuracy"] = result.metrics["best/train/presence_accuracy"]
    threshold = best["threshold"]
    if not planned:
        distribution = threshold_distribution(study.config.space)
        patiently(
            partial(
                study.storage.set_trial_param,
                trial._trial_id,
                "threshold",
                threshold,
                distribution,
            )
        )
    values = objective_values(_plain(metrics, "val/"), study.config.objective)
    found = {f"trial/{k}": v for k, v in best.items()} | {
        f"trial/objective{i or ''}": v for i, v in enumerate(values)
    }
    begin = time.perf_counter()
    note(
        folder.path, "complete", study=study, number=trial.number,
        params={"trial.threshold": f"{threshold:g}"}, metrics=found, files=(CURVE,),
    )  # fmt: skip
    tracking = result.tracking_seconds + time.perf_counter() - begin
    constraints = {} if single else violations(metrics)
    for name, value in constraints.items():
        trial.set_constraint(name, value)
    return Outcome(values, threshold, constraints, metrics, result.run_id, tracking)


def score_thresholds(study: Study, prepared: PreparedRun, folder: Path) -> pd.DataFrame:
    """Return the threshold curve of a run's best checkpoint, written into its folder."""
    # Imported here for the sake of `deconv tune status`, which needs none of it.
    from tuning.thresholds import threshold_curve

    best = load_checkpoint(folder / BEST, device=prepared.device)
    curve = threshold_curve(
        best.network.to(prepared.device), best.atlas, prepared.data.validation,
        thresholds(study.config.space), device=prepared.device,
        present_from=prepared.config.loss.presence_threshold,
    )  # fmt: skip
    write_text(folder / CURVE, curve.to_csv(index=False))
    return curve


def best_row(curve: pd.DataFrame, objective: ObjectiveConfig) -> dict[str, float]:
    """Return the threshold of the least objective (of two: their sum) with its metrics.

    Of equals it is the one nearest to the middle of their range, far from where it gets worse.
    """
    rows = [{str(k): float(v) for k, v in row.items()} for row in curve.to_dict("records")]
    scores = [sum(objective_values(row, objective), 0.0) for row in rows]
    least = [i for i, s in enumerate(scores) if s == min(scores)]
    return rows[least[len(least) // 2]]


def objective_values(metrics: Mapping[str, float], objective: ObjectiveConfig) -> list[float]:
    """Return what is minimised, from metrics by their plain names."""
    if objective.kind == "two":
        return [metrics["mae"], metrics["spurious_mass"]]
    return [objective.mae_weight * metrics["mae"] + 1 - metrics["presence_f1"]]


def violations(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return by how much each of `CRITERIA` is missed; 0 or less where it is met."""
    missed = {}
    for name, (least, most) in CRITERIA.items():
        value = metrics.get(name, float("inf"))
        short = float("-inf") if least is None else least - value
        over = float("-inf") if most is None else value - most
        missed[name] = max(short, over)
    return missed


def _plain(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}
