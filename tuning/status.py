"""How a study stands: counts, best, cost, time left, failures and their reasons."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from optuna.trial import FrozenTrial, TrialState
from rich.console import Group
from rich.table import Table
from rich.text import Text

from experiments.holder import is_gone
from tuning.claims import REASON
from tuning.lease import lease_of
from tuning.study import FINISHED, Study


@dataclass(frozen=True)
class Row:
    """A trial as people see it."""

    number: int
    state: str
    values: list[float] | None
    params: dict[str, float]
    epochs: int
    seconds: float
    starts: int
    note: str


@dataclass(frozen=True)
class Status:
    """A study at a moment."""

    name: str
    n_trials: int
    target: int
    rows: list[Row]
    best: list[int]
    """Numbers of the best trial, or of the Pareto front."""
    gpu_hours: float
    eta: timedelta | None
    spent: str | None
    stopped: bool

    def count(self, state: str) -> int:
        """Return how many trials are in a state."""
        return sum(row.state == state for row in self.rows)


def study_status(study: Study) -> Status:
    """Look at a study."""
    trials = study.trials()
    rows = [_row(t, study.config.lease_seconds) for t in trials]
    target = study.budget.trials
    finished = [row for row in rows if row.state not in ("working", "waiting")]
    n_working = sum(row.state == "working" for row in rows)
    eta = None
    if finished and n_working:
        mean = sum(row.seconds for row in finished) / len(finished)
        left = mean * (target - len(finished)) / n_working
        eta = timedelta(seconds=round(left))
    return Status(
        study.config.name, len(trials), target, rows, [t.number for t in best_trials(study)],
        study.gpu_hours(trials), eta, study.is_spent(trials, datetime.now()), study.is_stopped,
    )  # fmt: skip


def best_trials(study: Study) -> list[FrozenTrial]:
    """Return the best finished trial, or the Pareto front of two objectives, best first.

    Of two, those that meet the success criteria; if none does, the front of all.
    """
    done = [t for t in study.trials() if t.state == TrialState.COMPLETE]
    if study.config.objective.kind == "single":
        return sorted(done, key=lambda t: (t.values[0], t.number))[:1]
    feasible = [t for t in done if all(v <= 0 for v in t.constraints.values())]
    candidates = feasible or done
    front = [t for t in candidates if not any(_dominates(o, t) for o in candidates)]
    return sorted(front, key=lambda t: (t.values, t.number))


def knee(front: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return a front ordered by distance to its ideal point, each objective scaled to 0-1."""
    if not front:
        return []
    low = [min(t.values[i] for t in front) for i in range(len(front[0].values))]
    high = [max(t.values[i] for t in front) for i in range(len(low))]
    spans = [max(h - x, 1e-12) for x, h in zip(low, high, strict=True)]

    def distance(trial: FrozenTrial) -> float:
        parts = zip(trial.values, low, spans, strict=True)
        return float(sum(((v - x) / s) ** 2 for v, x, s in parts))

    return sorted(front, key=lambda t: (distance(t), t.number))


def _dominates(one: FrozenTrial, other: FrozenTrial) -> bool:
    pairs = list(zip(one.values, other.values, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _row(trial: FrozenTrial, lease_seconds: float) -> Row:
    lease = lease_of(trial)
    state, note = trial.state.name.lower(), str(trial.user_attrs.get(REASON, ""))
    if trial.state not in FINISHED:
        silent = lease is None or lease.holder is None or is_gone(lease.holder)
        if lease is not None and not silent:
            silent = datetime.now().timestamp() - lease.beat > lease_seconds
        state = "waiting" if silent else "working"
        if lease is not None and lease.holder is not None:
            where = lease.holder.partition(":")[0]
            note = f"died on {where}" if silent else f"on {where}"
    seconds = 0.0 if lease is None else lease.seconds
    if state == "working" and lease is not None:
        seconds += max(datetime.now().timestamp() - lease.beat, 0.0)
    return Row(
        trial.number, state, trial.values if trial.state in FINISHED else None, trial.params,
        max(trial.intermediate_values, default=0), seconds,
        1 if lease is None else lease.starts, note,
    )  # fmt: skip


def status_table(status: Status, *, n_rows: int = 20) -> Group:
    """Return what `deconv tune status` and `watch` show."""
    parts = [
        f"{status.count(s)} {s}" for s in ("complete", "pruned", "fail", "working", "waiting")
    ]
    head = f"{status.name}: {status.n_trials} of {status.target} trials started; "
    head += ", ".join(p for p in parts if not p.startswith("0 ")) or "none yet"
    facts = [f"{status.gpu_hours:.2f} GPU hours"]
    if status.eta is not None:
        facts.append(f"about {status.eta} left")
    if status.stopped:
        facts.append("stopped")
    if status.spent is not None:
        facts.append(status.spent)
    names = list(dict.fromkeys(name for row in status.rows for name in row.params))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("trial", "state", "objective", *names, "epoch", "time", "starts", "note"):
        left = column in ("state", "note")
        table.add_column(column.replace("_", " "), justify="left" if left else "right")
    best = [row for row in status.rows if row.number in status.best]
    rest = [row for row in reversed(status.rows) if row.number not in status.best]
    for row in [*best[:5], *rest[: max(n_rows - len(best), 0)]]:
        values = " ".join(f"{v:.5f}" for v in row.values or [])
        params = [f"{row.params[n]:.3g}" if n in row.params else "" for n in names]
        style = {"fail": "red", "pruned": "dim", "waiting": "yellow"}.get(row.state, "")
        table.add_row(
            str(row.number), "best" if row in best else row.state, values, *params,
            str(row.epochs or ""), str(timedelta(seconds=round(row.seconds))), str(row.starts),
            Text(row.note), style="green" if row in best else style,
        )  # fmt: skip
    return Group(Text(head), Text("; ".join(facts)), table)
