"""What proposes a study's trials, and what ends hopeless ones."""

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from tuning.config import PrunerConfig, StudyConfig
from tuning.space import search_space


def make_sampler(config: StudyConfig, number: int, *, planned: bool) -> BaseSampler:
    """Return what proposes a trial of a number; ``planned`` ones need no proposal."""
    seed, space = config.sampler.seed + number, search_space(config.space)
    if config.sampler.kind == "random" or planned:
        return RandomSampler(seed=seed)
    if config.sampler.kind == "gp":
        return _KnownSpaceGP(space, seed, config.sampler.startup_trials)
    return _KnownSpaceTPE(space, seed, config.sampler.startup_trials)


def make_pruner(config: PrunerConfig, n_epochs: int, *, planned: bool) -> BasePruner:
    """Return what ends trials of so many epochs; ``planned`` ones are never ended."""
    if config.kind == "none" or planned:
        return NopPruner()
    if config.kind == "halving":
        return SuccessiveHalvingPruner(config.min_epochs, config.reduction, 0)
    return HyperbandPruner(config.min_epochs, n_epochs, config.reduction)


class _KnownSpaceTPE(TPESampler):
    """TPE over the declared space: the threshold, recorded with it, is not proposed."""

    def __init__(self, space: dict[str, BaseDistribution], seed: int, startup: int) -> None:
        super().__init__(
            seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True
        )
        self._space = space

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the declared space."""
        return {n: d for n, d in sorted(self._space.items()) if not d.single()}


class _KnownSpaceGP(GPSampler):
    """A Gaussian process over the declared space."""

    def __init__(self, space: dict[str, BaseDistribution], seed: int, startup: int) -> None:
        super().__init__(seed=seed, n_startup_trials=startup)
        self._space = space

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the declared space."""
        return {n: d for n, d in sorted(self._space.items()) if not d.single()}
