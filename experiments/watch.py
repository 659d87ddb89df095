"""`deconv drift`: the records of a model's predictions beside what it was trained on."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deconv.errors import ConfigError, InputError
from deconv.files import write_text
from experiments.drift import (
    MIN_SAMPLES,
    SIGNIFICANT,
    TOLERATED,
    Drift,
    find_drift,
    recent_figures,
)
from experiments.models import open_model
from experiments.prediction_records import Record, read_records


@dataclass(frozen=True)
class Watched:
    """What became of a model's recent samples."""

    facts: Mapping[str, str]
    n_samples: int
    first: str
    last: str
    drifts: Sequence[Drift]
    notes: Sequence[str]

    @property
    def has_drift(self) -> bool:
        """Whether the model is asked what it was not trained for."""
        return any(d.drifts for d in self.drifts)

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        of = f"{self.n_samples} sample(s) from {self.first[:10]} to {self.last[:10]}"
        if self.n_samples < MIN_SAMPLES:
            return f"{of}: too few to tell, {MIN_SAMPLES} are needed"
        if not self.has_drift:
            return f"{of}: as those that the model was trained on"
        said = "; ".join(
            f"{d.meaning} (most unusual: {', '.join(d.farthest)})" for d in self.drifts if d.drifts
        )
        return f"{of}: the model is asked what it was not trained for: {said}"


def watch(
    source: str, folder: Path, *, since: datetime | None = None, last: int | None = None
) -> Watched:
    """Compare the recorded samples of a model with those of its training.

    Parameters
    ----------
    since
        Records from then on; UTC if it says nothing of a zone.
    last
        So many records, the latest.

    Raises
    ------
    ConfigError
        If the model does not come with figures of its training samples.
    InputError
        If there is no record of its predictions.
    """
    model = open_model(source)
    if model.trained is None:
        raise ConfigError(
            "the model does not say what its training samples looked like", where=source,
            got="a model of an earlier version, or no trained model",
            expected="one trained since bundles keep these figures",
        )  # fmt: skip
    records, notes = read_records(folder)
    if since is not None:
        start = since if since.tzinfo else since.replace(tzinfo=UTC)
        records = [r for r in records if datetime.fromisoformat(r.at) >= start]
    own = [r for r in records if r.model["sha256"] == model.identity.sha256]
    if last is not None:
        own = own[-last:]
    others = Counter(_named(r) for r in records if r.model["sha256"] != model.identity.sha256)
    notes = [*model.notes, *notes]
    notes += [f"left out: {n} prediction(s) of {name}" for name, n in sorted(others.items())]
    if not own:
        raise InputError(
            "no records of this model's predictions", where=folder,
            got=", ".join(f"{n} of {name}" for name, n in sorted(others.items())) or "none",
            expected=f"{source} ({model.facts['model version']})",
        )  # fmt: skip
    figures = recent_figures(own)
    if len(figures) < len(own):
        notes.append(f"{len(own) - len(figures)} prediction(s) of data predicted again later")
    lacking = set(map(str, figures)) - set(model.trained.quantiles)
    if lacking:
        notes.append(f"not kept of the training samples: {', '.join(sorted(lacking))}")
    drifts = find_drift(model.trained, figures)
    return Watched(model.facts, len(figures), own[0].at, own[-1].at, drifts, notes)


def write_json(seen: Watched, path: Path) -> None:
    """Write everything, with the rule."""
    content = {
        "model": dict(seen.facts),
        "rule": {
            "outside": "the central 99 % of training", "tolerated_share": TOLERATED,
            "significant_below": SIGNIFICANT, "adjusted": "Bonferroni", "min_samples": MIN_SAMPLES,
        },
        "samples": seen.n_samples,
        "first": seen.first,
        "last": seen.last,
        "drift": seen.has_drift,
        "verdict": seen.verdict,
        "quantities": [d.to_dict() for d in seen.drifts],
        "notes": list(seen.notes),
    }  # fmt: skip
    write_text(path, json.dumps(content, indent=1))


def _named(record: Record) -> str:
    version = record.model["version"]
    return f"{record.model['name']} version {version}" if version else record.model["name"]
