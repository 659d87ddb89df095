"""The end of a study: its best configurations trained in full, beside the default, on test donors.

The default and each of the best are trained with the same seeds, so with the same donors and
mixtures: what makes a sample hard cancels out in their difference.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

from optuna.trial import FrozenTrial, TrialState

from deconv.errors import ConfigError
from experiments.config import load_config
from tuning.config import StudyConfig
from tuning.plan import Planned
from tuning.reading import validated
from tuning.space import settings
from tuning.status import best_trials, knee
from tuning.study import BASE, Study

DEFAULT = "default"


def begin_finals(study: Study) -> Study:
    """Begin the end of a study as a study of its own, with given trials; or go on with it.

    Raises
    ------
    ConfigError
        If the study has no finished trial.
    """
    best = chosen(study)
    if not best:
        raise ConfigError(
            "no trial is complete", where=study.folder, expected="deconv tune status"
        )
    plan = _plan(study, best)
    content = json.dumps([asdict(p) for p in plan]).encode()
    name = f"{study.config.name}-finals-{hashlib.sha256(content).hexdigest()[:6]}"
    raw = {
        **study.config.model_dump(mode="json"),
        "name": name, "base": str(study.folder / BASE), "data": None, "set": [],
        "pruner": {"kind": "none"}, "budget": {"trials": len(plan)},
    }  # fmt: skip
    return Study.begin(validated(StudyConfig, raw, study.folder), plan)


def chosen(study: Study) -> list[FrozenTrial]:
    """Return the configurations to train in full: the best, or the front from its knee on."""
    if study.config.objective.kind == "two":
        return knee(best_trials(study))[: study.config.finish.top]
    done = [t for t in study.trials() if t.state == TrialState.COMPLETE]
    return sorted(done, key=lambda t: (t.values[0], t.number))[: study.config.finish.top]


def _plan(study: Study, best: Sequence[FrozenTrial]) -> list[Planned]:
    config = study.config
    n_epochs = load_config(config.base).training.num_epochs
    full = (f"training.num_epochs={n_epochs}", *config.finish.set)
    candidates = [(DEFAULT, full)]
    candidates += [(f"trial {t.number}", (*full, *settings(t.params))) for t in best]
    seeds = [study.base.random_seed + i for i in range(config.finish.seeds)]
    return [
        Planned(label, seed, (*overrides, f"random_seed={seed}"))
        for seed in seeds
        for label, overrides in candidates
    ]
