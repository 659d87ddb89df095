"""The finished runs of the end of a study: compared with the default, shown, recorded."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from optuna.trial import TrialState
from rich.table import Table

from deconv.benchmarks.bootstrap import Difference, paired_differences
from deconv.errors import ConfigError
from deconv.files import file_hash, write_text
from experiments.record import Notes, add_notes
from tuning.finish import DEFAULT
from tuning.study import Study
from tuning.trial_record import trial_folder

FINALS = "finals.json"
_SHOWN = ("mae", "wrong_calls", "presence_f1", "spurious_mass")


@dataclass(frozen=True)
class Final:
    """A configuration of the end: how good on validation, and against the default on test.

    ``run`` is the run with the study's own seed, whose test mixtures are those of other runs.
    """

    label: str
    overrides: tuple[str, ...]
    validation: float
    test_mae: float
    run: str
    against_default: dict[str, Difference]
    per_seed: list[float]
    """Difference of the test MAE to the default's, for each seed."""


@dataclass(frozen=True)
class Finals:
    """All of them; the winner is the best on validation but for the default."""

    finals: list[Final]

    @property
    def winner(self) -> Final:
        """The tuned configuration that is offered; the test did not choose it."""
        tuned = [f for f in self.finals if f.label != DEFAULT]
        return min(tuned, key=lambda f: f.validation)

    @property
    def is_worse(self) -> bool:
        """Whether the test shows that the default is better than the winner."""
        return self.winner.against_default["mae"].low > 0

    def verdict(self) -> str:
        """Return in words whether tuning has helped."""
        found = self.winner.against_default["mae"]
        span = f"{100 * found.value:+.4f} (95 % interval {100 * found.low:+.4f} to "
        span += f"{100 * found.high:+.4f}) percentage points of MAE on the test set"
        if found.high < 0:
            return f"{self.winner.label} beats the default: {span}"
        if self.is_worse:
            return f"{self.winner.label} is worse than the default: {span}"
        return f"no difference between {self.winner.label} and the default is shown: {span}"


def compare_finals(finals: Study) -> Finals:
    """Compare finished configurations.

    Raises
    ------
    ConfigError
        If one of the runs has failed, or tests on nothing.
    """
    trials = {t.number: t for t in finals.trials()}
    missing = [
        n for n in range(len(finals.plan))
        if n not in trials or trials[n].state != TrialState.COMPLETE
    ]  # fmt: skip
    if missing:
        reason = trials[missing[0]].user_attrs.get("reason") if missing[0] in trials else None
        raise ConfigError(
            f"{len(missing)} final runs are not complete", where=finals.folder,
            got=reason or "not yet", expected=f"deconv tune {finals.folder}",
        )  # fmt: skip
    if finals.base.data.test_donors == 0:
        raise ConfigError("no donors were held out for a test", where="data.test_donors")
    labels = list(dict.fromkeys(p.label for p in finals.plan))
    default = _answers(finals, DEFAULT)
    return Finals([_final(finals, label, default) for label in labels])


_Answers = list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def _final(finals: Study, label: str, default: _Answers) -> Final:
    own = _numbers(finals, label)
    answers = _answers(finals, label)
    joined, theirs = (_joined(a) for a in (answers, default))
    trials = finals.trials()
    error = [float(np.abs(p - t).mean()) for p, t, _ in answers]
    reference = [float(np.abs(p - t).mean()) for p, t, _ in default]
    found = paired_differences((joined[0], joined[2]), (theirs[0], theirs[2]), joined[1], seed=0)
    return Final(
        label,
        finals.plan[own[0]].overrides[:-1],
        float(np.mean([sum(trials[n].values) for n in own])),
        float(np.mean(error)),
        str(trials[own[0]].user_attrs["run_id"]),
        found,
        [a - b for a, b in zip(error, reference, strict=True)],
    )


def _numbers(finals: Study, label: str) -> list[int]:
    return [n for n, planned in enumerate(finals.plan) if planned.label == label]


def _answers(finals: Study, label: str) -> _Answers:
    """Return predicted and true proportions and calls on the test mixtures, for each seed."""
    found = []
    for number in _numbers(finals, label):
        stats = pd.read_csv(trial_folder(finals, number).path / "summary_stats.csv")
        n_tissues = stats["tissue"].nunique()
        predicted, true = (
            stats[f"{c}_proportion"].to_numpy().reshape(-1, n_tissues)
            for c in ("predicted", "true")
        )
        call = (stats["call"] == "detected").to_numpy().reshape(-1, n_tissues)
        found.append((predicted, true, call))
    return found


def _joined(answers: _Answers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    predicted, true, call = (np.concatenate(part) for part in zip(*answers, strict=True))
    return predicted, true, call


def report_finals(study: Study, result: Finals) -> None:
    """Write the end into the study's folder and its MLflow run."""
    content: dict[str, Any] = {
        "verdict": result.verdict(), "winner": result.winner.label,
        "finals": [asdict(f) for f in result.finals],
    }  # fmt: skip
    write_text(study.folder / FINALS, json.dumps(content, indent=1))
    found = result.winner.against_default
    metrics = {}
    for name in _SHOWN:
        if name in found:
            metrics[f"final/{name}_difference"] = found[name].value
            metrics[f"final/{name}_difference_low"] = found[name].low
            metrics[f"final/{name}_difference_high"] = found[name].high
    tags = {"final.verdict": result.verdict(), "final.run": result.winner.run}
    # A step of its own: what was recorded of the search stands.
    notes = Notes(
        tags=tags, metrics=metrics, step=10**6, files={FINALS: file_hash(study.folder / FINALS)}
    )
    add_notes(study.folder, notes)


def finals_table(result: Finals) -> Table:
    """Return the end of a study as people see it."""
    table = Table(title="test set, difference to the default", title_justify="left")
    table.add_column("configuration", no_wrap=True)
    for name in ("test MAE, %", "MAE, points", "wrong calls, points", "F1", "spurious, points"):
        table.add_column(name, justify="right")
    for final in result.finals:
        cells = []
        for name in _SHOWN:
            found = final.against_default.get(name)
            scale = 1 if name == "presence_f1" else 100
            if found is None or final.label == DEFAULT:
                cells.append("")
            else:
                low, high = scale * found.low, scale * found.high
                cells.append(f"{scale * found.value:+.4f} ({low:+.4f} to {high:+.4f})")
        table.add_row(final.label, f"{100 * final.test_mae:.4f}", *cells)
    return table
