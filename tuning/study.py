"""A study on disk and in its storage: begun, opened, stopped, extended."""

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from deconv.errors import ConfigError
from deconv.files import write_text
from experiments.config import RunConfig, load_config
from tuning.config import BudgetConfig, StudyConfig
from tuning.plan import Planned, read_plan, write_plan
from tuning.proposals import make_pruner, make_sampler
from tuning.reading import absolute, read_section, require_same, validated
from tuning.storage import open_storage

STUDY, BASE = "study.yaml", "base.yaml"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_BUDGET, _STOPPED, _PARENT, _GPUS = "budget", "stopped", "parent_run", "gpus_per_worker"
_FORGIVEN = "forgiven"
_HOPELESS = 3  # trials that fail, and none that does not, before the study gives up


class Study:
    """A study, from any machine that sees its folder.

    The folder has the configuration, the trials' runs and logs; everything that changes is in
    the storage.

    Raises
    ------
    ConfigError
        If there is no study in the folder.
    StorageError
        If its storage is away.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / STUDY).is_file():
            raise ConfigError("no study", where=folder, expected=f"a folder with {STUDY}")
        self.folder = folder
        self.config = read_section(StudyConfig, folder / STUDY)
        storage, self.mutex = open_storage(self.config.storage, folder, self.config.name)
        n_epochs = self.base.training.num_epochs
        pruner = make_pruner(self.config.pruner, n_epochs, planned=bool(self.plan))
        n_objectives = 2 if self.config.objective.kind == "two" else 1
        with self.mutex():
            self.optuna = optuna.create_study(
                storage=storage, study_name=self.config.name, load_if_exists=True,
                directions=["minimize"] * n_objectives, pruner=pruner,
            )  # fmt: skip
        self.storage: BaseStorage = self.optuna._storage  # with Optuna's cache of ended trials
        self.id: int = self.optuna._study_id

    @classmethod
    def begin(cls, config: StudyConfig, plan: Sequence[Planned] = ()) -> "Study":
        """Make a study, or go on with the one of this name.

        Raises
        ------
        ConfigError
            If the one that is there differs in more than budget and place.
        """
        config = absolute(config)
        folder = config.folder
        if (folder / STUDY).exists():
            begun = read_section(StudyConfig, folder / STUDY)
            require_same(begun, config, folder)
            write_text(folder / STUDY, yaml.safe_dump(config.model_dump(mode="json")))
            study = cls(folder)
            if begun.budget != config.budget:
                study.set_budget(config.budget)
            return study
        run = load_config(config.base, overrides=config.set, data=config.data)
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        (folder / "logs").mkdir(exist_ok=True)
        write_text(folder / BASE, yaml.safe_dump(run.model_dump(mode="json")))
        if plan:
            write_plan(folder, plan)
        write_text(folder / STUDY, yaml.safe_dump(config.model_dump(mode="json")))
        study = cls(folder)
        study.set_budget(config.budget)
        return study

    @cached_property
    def plan(self) -> list[Planned]:
        """Trials whose settings are given; empty for a search."""
        return read_plan(self.folder)

    @cached_property
    def base(self) -> RunConfig:
        """The run that trials vary."""
        return load_config(self.folder / BASE)

    def run_config(self, overrides: Sequence[str]) -> RunConfig:
        """Return the configuration of a trial's run."""
        own = [
            f"output.directory={self.folder / 'runs'}",
            f"output.study={self.config.name}",
            f"output.parent_run={self.parent_run or 'null'}",
        ]
        return load_config(self.folder / BASE, overrides=[*overrides, *own])

    def run_folder(self, number: int) -> Path:
        """Return the folder of a trial's run."""
        return self.folder / "runs" / f"{self.config.name}-{number:04d}"

    def trials(self) -> list[FrozenTrial]:
        """Return all trials as they are now."""
        return list(self.storage.get_all_trials(self.id, deepcopy=False))

    def sampler(self, number: int) -> BaseSampler:
        """Return what proposes a trial: the same whoever asks."""
        return make_sampler(self.config, number, planned=bool(self.plan))

    @property
    def _attributes(self) -> dict[str, Any]:
        return dict(self.storage.get_study_user_attrs(self.id))

    def _set(self, name: str, value: Any) -> None:
        self.storage.set_study_user_attr(self.id, name, value)

    @property
    def budget(self) -> BudgetConfig:
        """What may be spent; grows when the study is extended."""
        saved = self._attributes.get(_BUDGET)
        return self.config.budget if saved is None else validated(BudgetConfig, saved, self.folder)

    def set_budget(self, budget: BudgetConfig) -> None:
        """Allow more, or less: what runs ends as it would."""
        self._set(_BUDGET, budget.model_dump())

    @property
    def is_stopped(self) -> bool:
        """Whether workers are asked to leave."""
        return bool(self._attributes.get(_STOPPED, False))

    def set_stopped(self, stopped: bool) -> None:
        """Ask all workers to checkpoint and leave, or let new ones work."""
        self._set(_STOPPED, stopped)

    def forgive_failures(self) -> None:
        """Let trials be started although all have failed so far: their cause may be gone."""
        self._set(_FORGIVEN, sum(t.state == TrialState.FAIL for t in self.trials()))

    @property
    def parent_run(self) -> str | None:
        """MLflow's id of the study's own run."""
        return self._attributes.get(_PARENT)

    def set_parent_run(self, run_id: str) -> None:
        """Record the id."""
        self._set(_PARENT, run_id)

    @property
    def gpus_per_worker(self) -> float:
        """Share of a GPU that a worker has."""
        return float(self._attributes.get(_GPUS, 0.0))

    def set_gpus_per_worker(self, share: float) -> None:
        """Record the share."""
        self._set(_GPUS, share)

    def is_spent(self, trials: Sequence[FrozenTrial], now: datetime) -> str | None:
        """Return why no trial may be started any more, None if one may."""
        budget = self.budget
        if len(trials) >= budget.trials:
            return f"all {budget.trials} trials were started"
        begun = [t.datetime_start for t in trials if t.datetime_start is not None]
        if budget.hours is not None and begun:
            hours = (now - min(begun)).total_seconds() / 3600
            if hours >= budget.hours:
                return f"{budget.hours:g} hours are over"
        if budget.gpu_hours is not None and self.gpu_hours(trials) >= budget.gpu_hours:
            return f"{budget.gpu_hours:g} GPU hours are used"
        failed = [t for t in trials if t.state == TrialState.FAIL]
        n_new = len(failed) - int(self._attributes.get(_FORGIVEN, 0))
        if n_new >= _HOPELESS and len(failed) == sum(t.state in FINISHED for t in trials):
            return f"all trials failed, the last of: {failed[-1].user_attrs.get('reason')}"
        return None

    def gpu_hours(self, trials: Sequence[FrozenTrial]) -> float:
        """Return the GPU hours that trials have used."""
        seconds = sum(t.user_attrs.get("lease", {}).get("seconds", 0.0) for t in trials)
        return self.gpus_per_worker * float(seconds) / 3600

    def is_finished(self) -> bool:
        """Whether nothing is left to do within the budget."""
        trials = self.trials()
        done = all(t.state in FINISHED for t in trials)
        return done and self.is_spent(trials, datetime.now()) is not None
