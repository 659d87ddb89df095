"""What a study may change, and how far; a study's YAML file narrows it.

A dimension names the setting of `experiments.config.RunConfig` that it changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

THRESHOLD = "threshold"
_STEP = 0.01  # between the thresholds that are scored


@dataclass(frozen=True)
class Dimension:
    """A setting, the range in which it is sought, and whether by its logarithm."""

    key: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def distribution(self, low: float, high: float) -> FloatDistribution | IntDistribution:
        """Return a part of the range as Optuna has it."""
        if self.whole:
            return IntDistribution(round(low), round(high), log=self.log)
        return FloatDistribution(low, high, log=self.log)


DIMENSIONS = {
    "presence_weight": Dimension("loss.presence_weight", 0.1, 10, log=True),
    "sparsity_weight": Dimension("loss.sparsity_weight", 1e-4, 1, log=True),
    THRESHOLD: Dimension("model.presence_threshold", 0.05, 0.95),
    "learning_rate": Dimension("training.learning_rate", 1e-6, 1e-2, log=True),
    "dropout": Dimension("model.dropout", 0, 0.5),
    "hidden_size": Dimension("model.hidden_size", 8, 4096, log=True, whole=True),
    "intermediate_size": Dimension("model.intermediate_size", 8, 8192, log=True, whole=True),
}
DEFAULT_SPACE = ("presence_weight", "sparsity_weight", THRESHOLD)

Space = Mapping[str, float | tuple[float, float] | None]


def check_space(space: Space) -> None:
    """Refuse a space that the code does not know.

    Raises
    ------
    ValueError
        If a name is unknown, or a range is empty or leaves that of the code.
    """
    for name, given in space.items():
        if name not in DIMENSIONS:
            raise ValueError(f"{name} cannot be tuned; these can: {', '.join(DIMENSIONS)}")
        dimension = DIMENSIONS[name]
        low, high = _bounds(name, given)
        if not dimension.low <= low <= high <= dimension.high:
            raise ValueError(
                f"{name}: [{low:g}, {high:g}] is no part of "
                f"[{dimension.low:g}, {dimension.high:g}]"
            )
    if not set(space) - {THRESHOLD}:
        raise ValueError(f"nothing to sample; {THRESHOLD} needs no trials")


def search_space(space: Space) -> dict[str, BaseDistribution]:
    """Return what the sampler proposes; the threshold is found, not proposed."""
    return {
        name: DIMENSIONS[name].distribution(*_bounds(name, given))
        for name, given in space.items()
        if name != THRESHOLD
    }


def thresholds(space: Space) -> Float[np.ndarray, " k"]:
    """Return the presence thresholds to score, ascending."""
    low, high = _bounds(THRESHOLD, space.get(THRESHOLD))
    n_steps = round((high - low) / _STEP)
    return np.linspace(low, high, max(n_steps, 1) + 1).round(4) if high > low else np.array([low])


def threshold_distribution(space: Space) -> FloatDistribution:
    """Return the range of the threshold as Optuna has it."""
    return FloatDistribution(*_bounds(THRESHOLD, space.get(THRESHOLD)))


def suggest(trial: Trial, space: Space) -> list[str]:
    """Ask for a trial's settings; return them as ``section.key=value``."""
    overrides = []
    for name, distribution in search_space(space).items():
        value: float
        if isinstance(distribution, IntDistribution):
            value = trial.suggest_int(
                name, distribution.low, distribution.high, log=distribution.log
            )
        else:
            assert isinstance(distribution, FloatDistribution)
            value = trial.suggest_float(
                name, distribution.low, distribution.high, log=distribution.log
            )
        overrides.append(f"{DIMENSIONS[name].key}={value!r}")
    return overrides


def settings(params: Mapping[str, float], names: Sequence[str] = tuple(DIMENSIONS)) -> list[str]:
    """Return a trial's parameters as ``section.key=value``, the threshold among them."""
    return [f"{DIMENSIONS[n].key}={params[n]!r}" for n in names if n in params]


def _bounds(name: str, given: float | tuple[float, float] | None) -> tuple[float, float]:
    if given is None:
        return DIMENSIONS[name].low, DIMENSIONS[name].high
    return given if isinstance(given, tuple) else (given, given)
