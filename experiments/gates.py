"""The rules of promotion: pure functions from metrics to verdicts with reasons."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

_CHAMPION_METRIC = "test/mae"


@dataclass(frozen=True)
class Verdict:
    """Whether one rule is met, in words a person can act on."""

    rule: str
    passed: bool
    reason: str


def load_gates() -> dict[str, dict[str, float]]:
    """Return the limits of each metric, from ``mlruns_config/gates.yaml``."""
    text = (resources.files("mlruns_config") / "gates.yaml").read_text()
    return dict(yaml.safe_load(text)["gates"])


def check_limits(
    metrics: Mapping[str, float], gates: Mapping[str, Mapping[str, float]]
) -> list[Verdict]:
    """Compare metrics with absolute limits; one that was not measured fails."""
    verdicts = []
    for name, limit in gates.items():
        low, high = limit.get("min", float("-inf")), limit.get("max", float("inf"))
        bounds = " and ".join(
            f"{word} {limit[key]:g}"
            for key, word in (("min", "at least"), ("max", "at most"))
            if key in limit
        )
        value = metrics.get(name)
        passed = value is not None and low <= value <= high
        got = "not measured" if value is None else f"{value:.4g}"
        verdicts.append(Verdict(name, passed, f"{got}, {bounds} needed"))
    return verdicts


def check_sparse(params: Mapping[str, Any]) -> Verdict:
    """Require a two-stage model: the other kind gives every absent tissue some mass."""
    sparse = str(params.get("model.use_two_stage")).lower() == "true"
    return Verdict("sparse", sparse, "two-stage" if sparse else "a single-stage model")


def check_against_champion(
    metrics: Mapping[str, float],
    test_set: str | None,
    champion: Mapping[str, float] | None,
    champion_test_set: str | None,
) -> Verdict:
    """Require a lower error than the present production model's, on the same test set."""
    rule = "better than production"
    if champion is None:
        return Verdict(rule, True, "there is no production model yet")
    if test_set is None or test_set != champion_test_set:
        return Verdict(
            rule, False,
            "production was tested on other mixtures (same data, seed and designs are needed)",
        )  # fmt: skip
    new, old = metrics.get(_CHAMPION_METRIC), champion.get(_CHAMPION_METRIC)
    if new is None or old is None:
        return Verdict(rule, False, f"{_CHAMPION_METRIC} was not measured")
    return Verdict(rule, new < old, f"{_CHAMPION_METRIC} {new:.5f}, production has {old:.5f}")
