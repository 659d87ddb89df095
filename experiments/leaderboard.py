"""Runs ranked by a metric: one query of the tracking store, whatever it holds."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run
from rich.markup import escape
from rich.table import Table

from deconv.errors import ConfigError
from deconv.metrics import HEADLINE
from experiments.metric_names import (
    TITLES,
    base_name,
    best_of,
    interval_names,
    show,
    show_interval,
    smaller_is_better,
)
from experiments.reading import EXPERIMENT, experiment_ids, quoted, test_digest
from experiments.store import open_store, tracking_errors

DEFAULT_METRIC = "best/val/mae"
TEST = tuple(f"test/{name}" for name in HEADLINE)
TAGS = ("phase", "sparse", "dataset", "study")


@dataclass(frozen=True)
class Row:
    """A finished run: its tags, its metrics and the digest of its test mixtures."""

    name: str
    run_id: str
    tags: dict[str, str]
    metrics: dict[str, float]
    test_set: str | None

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Return the logged 95 % interval of a metric, if there is one."""
        low, high = (self.metrics.get(name) for name in interval_names(metric))
        return None if low is None or high is None else (low, high)


def leaderboard(
    metric: str = DEFAULT_METRIC,
    *,
    experiments: Sequence[str] = (EXPERIMENT,),
    tags: dict[str, str] | None = None,
    n: int = 20,
) -> list[Row]:
    """Return the ``n`` finished runs with the best value of a metric, the best first.

    Parameters
    ----------
    tags
        Values that a run's tags must have, such as ``{"phase": "2"}``.

    Raises
    ------
    ConfigError
        If no run has the metric, it cannot be ranked by, or an experiment does not exist.
    TrackingError
        If the store cannot be reached.
    """
    smaller = smaller_is_better(metric)
    if smaller is None or "`" in metric:
        raise ConfigError(
            "runs cannot be ranked by this metric", got=metric,
            expected="one whose name ends in mae, presence_f1, spurious_mass, loss, ...",
        )  # fmt: skip
    wanted = [f"tags.`{name}` = {quoted(value)}" for name, value in (tags or {}).items()]
    with tracking_errors("cannot read the runs"):
        runs = open_store().search_runs(
            experiment_ids(experiments),
            filter_string=" AND ".join(["attributes.status = 'FINISHED'", *wanted]),
            order_by=[f"metrics.`{metric}` {'ASC' if smaller else 'DESC'}"],
            max_results=n,
        )
    # The store puts runs without the metric last.
    ranked = [run for run in runs if math.isfinite(run.data.metrics.get(metric, math.nan))]
    if not ranked and runs:
        close = difflib.get_close_matches(metric, runs[0].data.metrics, n=3, cutoff=0)
        raise ConfigError("no run has this metric", got=metric, expected=", ".join(close))
    return [_row(run) for run in ranked]


def leaderboard_table(rows: Sequence[Row], metric: str) -> tuple[Table, str]:
    """Return the table that people see, with the best of a column in bold, and a note."""
    columns = list(dict.fromkeys((metric, *TEST)))
    table = Table(title=f"{len(rows)} runs by {metric}", title_justify="left")
    table.add_column("", justify="right")
    table.add_column("run", overflow="fold", min_width=12)
    shown = [tag for tag in TAGS if any(tag in row.tags for row in rows)]
    for tag in shown:
        table.add_column(tag)
    for column in columns:
        base = base_name(column)
        title = TITLES.get(base, base)
        table.add_column(f"test {title}" if column in TEST else column, justify="right")
    letters = _letters(rows)
    if len(letters) > 1:
        table.add_column("tested on")
    comparable = [row.test_set == rows[0].test_set for row in rows]
    best = {
        column: best_of(
            column,
            [
                row.metrics.get(column) if same or column not in TEST else None
                for row, same in zip(rows, comparable, strict=True)
            ],
        )
        for column in columns
    }
    for i, row in enumerate(rows):
        cells = [str(i + 1), escape(row.name), *(escape(row.tags.get(t, "")) for t in shown)]
        for column in columns:
            text = show(column, row.metrics.get(column))
            span = show_interval(column, row.interval(column))
            text += f"\n[dim]{span}[/]" if span else ""
            cells.append(f"[bold green]{text}[/]" if best[column] == i else text)
        if len(letters) > 1:
            cells.append(letters[row.test_set] if row.test_set is not None else "")
        table.add_row(*cells)
    note = "Bold: best of the column. Below a value: its 95 % interval."
    if len(letters) > 1:
        note += " Test figures compare among runs tested on the same set (same letter) only, of "
        note += "which the best is of set a."
    return table, note


def leaderboard_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows for programs."""
    return [{"rank": i, **vars(row)} for i, row in enumerate(rows, start=1)]


def _row(run: Run) -> Row:
    digest = test_digest(run)
    return Row(
        name=run.info.run_name,
        run_id=run.info.run_id,
        tags={tag: run.data.tags[tag] for tag in TAGS if tag in run.data.tags},
        metrics=dict(sorted(run.data.metrics.items())),
        test_set=None if digest is None else ":".join(digest),
    )


def _letters(rows: Sequence[Row]) -> dict[str, str]:
    """Name each test set by a letter, or by letters from the 27th on."""
    names: dict[str, str] = {}
    for row in rows:
        if row.test_set is not None and row.test_set not in names:
            high, low = divmod(len(names), 26)
            names[row.test_set] = (chr(96 + high) if high else "") + chr(97 + low)
    return names
