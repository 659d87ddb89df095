"""What people see: progress of a run, and tables of results."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from deconv.metrics import HEADLINE

if TYPE_CHECKING:  # torch takes seconds to import, and most commands do without
    from experiments.gates import Verdict
    from experiments.reproduce import Condition, Difference

_PERCENT = {"mae", "spurious_mass"}
_HEADINGS = dict(zip(HEADLINE, ("MAE", "bal. acc.", "F1", "spurious", "ratio"), strict=True))
_METHODS = {"": "network", "nnls/": "NNLS", "weighted_nnls/": "weighted NNLS"}


class RunProgress:
    """A bar on a terminal; in a log, a plain line for each epoch."""

    def __init__(self, n_steps: int, n_epochs: int) -> None:
        self._console = Console(stderr=True)
        self._n_epochs = n_epochs
        self._bar = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"),
            TimeRemainingColumn(), console=self._console, transient=True,
            disable=not sys.stderr.isatty(),
        )  # fmt: skip
        self._task = self._bar.add_task("", total=n_steps)

    def __enter__(self) -> "RunProgress":
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self._bar.stop()

    def advance(self, steps: int) -> None:
        """Move the bar."""
        self._bar.advance(self._task, steps)

    def report(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Print an epoch."""
        parts = [f"epoch {epoch}/{self._n_epochs}", f"loss {metrics['train/loss']:.4f}"]
        if "val/mae" in metrics:
            parts += [
                f"val MAE {metrics['val/mae']:.3%}",
                f"balanced accuracy {metrics['val/presence_balanced_accuracy']:.3f}",
                f"spurious {metrics['val/spurious_mass']:.2%}",
            ]
        self._console.print("  ".join(parts), highlight=False, soft_wrap=True)


def results_table(metrics: Mapping[str, float], set_name: str = "test") -> Table:
    """Return the network's results beside the baselines'."""
    table = Table(title=f"{set_name}: mixtures of unseen donors", title_justify="left")
    table.add_column("method")
    for heading in _HEADINGS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for prefix, title in _METHODS.items():
        where = f"best/{set_name}" if set_name == "val" and not prefix else set_name
        values = [metrics[f"{where}/{prefix}{name}"] for name in _HEADINGS]
        shown = zip(_HEADINGS, values, strict=True)
        table.add_row(title, *(f"{v:.3%}" if n in _PERCENT else f"{v:.3f}" for n, v in shown))
    return table


def accuracy_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a scenario's methods, with 95 % bootstrap intervals of error and wrong calls."""
    first = rows[0]
    table = Table(
        title=f"{first['scenario']}, seed {first['seed']}: {first['n_samples']} samples, "
        f"depth {first['depth']:g}",
        title_justify="left",
    )
    table.add_column("method", no_wrap=True)
    for heading in ("MAE, %", "wrong calls, %", "F1", "spurious, %", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        spans = [
            f"{100 * row[k]:.3f} ({100 * row['intervals'][k][0]:.3f}-"
            f"{100 * row['intervals'][k][1]:.3f})"
            for k in ("mae", "wrong_calls")
        ]
        ratio = row.get("prediction_ratio", float("nan"))
        rest = (f"{row['presence_f1']:.4f}", f"{100 * row['spurious_mass']:.3f}", f"{ratio:.3f}")
        table.add_row(row["method"], *spans, *rest)
    return table


def verdict_table(verdicts: list["Verdict"]) -> Table:
    """Return the rules of promotion with pass or fail."""
    table = Table(title="success criteria", title_justify="left")
    for column in ("rule", "", "found"):
        table.add_column(column, no_wrap=column == "rule")
    for verdict in verdicts:
        mark = "[green]pass[/]" if verdict.passed else "[red]fail[/]"
        table.add_row(verdict.rule, mark, verdict.reason)
    return table


def conditions_table(conditions: Sequence["Condition"]) -> Table:
    """Return what a result depends on, as it was and as it is here."""
    table = Table(title="conditions", title_justify="left")
    for column in ("", "of the run", "here", ""):
        table.add_column(column, overflow="fold")
    for condition in conditions:
        mark = "[green]same[/]" if condition.is_same else "[yellow]differs[/]"
        table.add_row(condition.name, condition.was, condition.now, mark)
    return table


def differences_table(differences: Sequence["Difference"], n: int = 20) -> Table:
    """Return the first ``n`` values that are not as they were logged."""
    title = "not as logged" if len(differences) <= n else f"not as logged, first {n}"
    table = Table(title=title, title_justify="left")
    for column in ("metric", "logged", "now"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for d in differences[:n]:
        table.add_row(d.name, *("missing" if v is None else f"{v!r}" for v in (d.logged, d.found)))
    return table


@contextmanager
def going_through(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal; yield what moves it to so many of so many files."""
    bar = Progress(
        TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn("files"),
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=None)
        yield lambda n_done, n_files: bar.update(task, completed=n_done, total=n_files)


def quiet_libraries() -> None:
    """Keep the messages of MLflow and its database off the terminal, but for warnings."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
