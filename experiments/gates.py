"""The rules of promotion: pure functions from what is known of a model to reasoned verdicts."""

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from deconv.benchmarks.bootstrap import Difference
from deconv.configuration import Section, parse_yaml, validate
from deconv.errors import ConfigError

_SAID = ("true", "false")


class Limit(Section):
    """Inclusive bounds of a metric."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _check(self) -> "Limit":
        if self.min is None and self.max is None:
            raise ValueError("a limit needs min or max")
        return self

    def excess(self, value: float) -> float:
        """Return by how much a value is out of bounds; NaN for one that is no number."""
        below = 0.0 if self.min is None else self.min - value
        above = 0.0 if self.max is None else value - self.max
        return max(below, above) if math.isfinite(value) else math.nan

    def __str__(self) -> str:
        """Return the bounds in words."""
        words = (("at least", self.min), ("at most", self.max))
        return " and ".join(f"{word} {value:g}" for word, value in words if value is not None)


class ChampionRule(Section):
    """What a challenger must show against the present production model."""

    confidence: float = Field(gt=0.5, lt=1)
    largest_tissue_loss: float = Field(gt=0, lt=1)


class SampleRule(Section):
    """What the samples must be that decide; ``sha256`` allows only those of one benchmark."""

    min_samples: int = Field(100, ge=2)
    sha256: str | None = Field(None, pattern="^[0-9a-f]{16,64}$")


class LineageRule(Section):
    """What must be known of where a model comes from."""

    tags: tuple[str, ...]
    allow_changed_code: bool


class Policy(Section):
    """The rules, as a file states them; ``sha256`` is of its content."""

    version: Literal[2]
    metrics: dict[str, Limit] = Field(min_length=1)
    test: SampleRule = SampleRule()
    champion: ChampionRule
    lineage: LineageRule
    sha256: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether one rule is met, in words a person can act on."""

    rule: str
    passed: bool
    reason: str


def load_policy(path: Path | None = None) -> Policy:
    """Read the rules, by default those of ``mlruns_config/gates.yaml``.

    Raises
    ------
    ConfigError
        If the file is not a policy of this version.
    """
    source = path or resources.files("mlruns_config") / "gates.yaml"
    try:
        content = source.read_bytes()
        raw = parse_yaml(content)
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError("not a promotion policy", where=source, got=reason) from error
    if not isinstance(raw, dict) or "sha256" in raw:
        raise ConfigError(
            "not a promotion policy", where=source, expected="version, metrics, champion, lineage"
        )
    return validate(Policy, {**raw, "sha256": hashlib.sha256(content).hexdigest()}, source)


def check_limits(metrics: Mapping[str, float], limits: Mapping[str, Limit]) -> list[Verdict]:
    """Compare metrics with absolute limits; one that was not measured fails."""
    verdicts = []
    for name, limit in limits.items():
        value = metrics.get(name)
        if value is None:
            verdicts.append(Verdict(name, False, f"not measured, {limit} needed"))
            continue
        excess = limit.excess(value)
        by = f" (by {excess:.2g})" if excess > 0 else ""
        verdicts.append(Verdict(name, excess <= 0, f"{value:.4g}{by}, {limit} needed"))
    return verdicts


def check_samples(n_samples: int, digest: str, rule: SampleRule) -> Verdict:
    """Require enough samples to tell models apart, and the benchmark that the rules name, if any.

    Parameters
    ----------
    digest
        First 16 digits of the SHA-256 of the samples.
    """
    reason = f"{n_samples} samples ({digest}), at least {rule.min_samples} needed"
    is_pinned = rule.sha256 is None or rule.sha256[:16] == digest
    if not is_pinned:
        reason = f"{digest}, {str(rule.sha256)[:16]} needed: --benchmark FILE"
    return Verdict("samples", is_pinned and n_samples >= rule.min_samples, reason)


def check_sparse(params: Mapping[str, Any]) -> Verdict:
    """Require a two-stage model: the other kind gives every absent tissue some mass."""
    sparse = str(params.get("model.use_two_stage")).lower() == "true"
    return Verdict("sparse", sparse, "two-stage" if sparse else "a single-stage model")


def check_lineage(
    tags: Mapping[str, str],
    rule: LineageRule,
    *,
    allow_changed_code: bool = False,
    of_model: Mapping[str, str] | None = None,
) -> Verdict:
    """Require that data and code of a model are known, and that the code can be had again.

    Parameters
    ----------
    tags
        Of the run, which people can change.
    of_model
        Hashes that the model itself states, by the names of the tags that must agree.
    """
    missing = [name for name in rule.tags if tags.get(name, "unknown") == "unknown"]
    if tags.get("git.commit", "unknown") != "unknown" and tags.get("git.dirty") not in _SAID:
        missing.append("git.dirty")
    if missing:
        return Verdict("lineage", False, f"not known: {', '.join(missing)}")
    other = [name for name, value in (of_model or {}).items() if tags.get(name) != value]
    if other:
        return Verdict("lineage", False, f"{', '.join(other)} of the run are not the model's")
    changed, commit = tags.get("git.dirty") == "true", tags.get("git.commit", "unknown")
    code, problem = f"commit {commit[:12]}", "with changes that were not committed"
    if commit == "unknown":
        stated = tags.get("code.release", "it was not recorded whether it was changed")
        changed, code = stated != "true", f"release {tags['version.deconv']}"
        problem = f"is not certain: {stated}"
    if changed and not (rule.allow_changed_code or allow_changed_code):
        return Verdict("lineage", False, f"{code} {problem}")
    return Verdict("lineage", True, code + (", changed (allowed)" if changed else ""))


def check_leakage(
    trained_on: Collection[str] | None, tested_on: Collection[str] | None
) -> Verdict:
    """Require that no donor of the test was trained or validated on."""
    if trained_on is None or tested_on is None:
        whose = "the model" if trained_on is None else "the test"
        return Verdict("donors", False, f"the donors of {whose} are not known")
    shared = sorted(set(trained_on) & set(tested_on))
    if shared:
        names = ", ".join(shared[:3])
        reason = f"{len(shared)} of {len(tested_on)} donors of the test were trained on: {names}"
        return Verdict("donors", False, reason)
    return Verdict(
        "donors", True, f"none of the {len(tested_on)} donors of the test was trained on"
    )


def check_against_champion(difference: Difference | None, rule: ChampionRule) -> Verdict:
    """Require a smaller mean absolute error than production's, with confidence.

    Parameters
    ----------
    difference
        Challenger's less champion's, on the same samples; its p-value is two-sided. None: there
        is no champion.
    """
    name = "better than production"
    if difference is None:
        return Verdict(name, True, "there is no production model yet")
    confidence = 1 - difference.p_value / 2 if difference.value < 0 else difference.p_value / 2
    reason = (
        f"mae {difference.value:+.3g} ({difference.low:+.3g} to {difference.high:+.3g}), better "
        f"with confidence {confidence:.3f}, {rule.confidence:g} needed"
    )
    return Verdict(name, difference.value < 0 and confidence >= rule.confidence, reason)


def check_tissues(losses: Mapping[str, float], rule: ChampionRule) -> Verdict:
    """Require that no tissue's mean absolute error is much larger than production's."""
    name = "no tissue much worse"
    if not losses:
        return Verdict(name, True, "there is no production model yet")
    tissue = max(losses, key=lambda t: losses[t])
    loss = losses[tissue]
    reason = f"{tissue} has most: {loss:+.3g}, at most {rule.largest_tissue_loss:g} allowed"
    return Verdict(name, loss <= rule.largest_tissue_loss, reason)
