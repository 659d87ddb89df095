"""Runs ranked by a metric: one query of the tracking store, whatever it holds."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlflow.entities import Run
from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table
from rich.text import Text

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
_NAME = 12  # columns that the name of a run has at least
_GIVE_WAY = (
    "study", "dataset", "sparse", "test/prediction_ratio", "test/presence_balanced_accuracy",
    "phase", "test/spurious_mass", "test/presence_f1",
)  # fmt: skip
"""Columns that are left out where the terminal is narrow, this first."""


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


def leaderboard_table(rows: Sequence[Row], metric: str, *, width: int) -> tuple[Table, str]:
    """Return the table that people see, with the best of a column in bold, and a note.

    No figure is cut: in a ``width`` that is too small for all, columns are left out, as the
    note says, and names are broken.
    """
    letters = _letters(rows)
    names = {"run": [escape(row.name) for row in rows]}
    tags = {t: [escape(row.tags.get(t, "")) for row in rows] for t in TAGS}
    names |= {t: cells for t, cells in tags.items() if any(cells)}
    figures = {_title(column): _cells(column, rows) for column in dict.fromkeys((metric, *TEST))}
    if len(letters) > 1:
        figures["tested on"] = [letters.get(row.test_set or "", "") for row in rows]
    columns = {"": [str(i) for i in range(1, len(rows) + 1)], **names, **figures}
    asked = _title(metric)
    left_out = []
    for title in map(_title, _GIVE_WAY):
        if _width(columns) <= width:
            break
        if title != asked and columns.pop(title, None) is not None:
            left_out.append(title)
    table = Table(title=f"{len(rows)} runs by {metric}", title_justify="left")
    for title in columns:
        if title == "run":
            table.add_column(title, overflow="fold", min_width=_NAME)
        else:
            side: Literal["left", "right"] = "left" if title in names else "right"
            table.add_column(title, justify=side, no_wrap=True)
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    note = "Bold: best of the column. Below a value: its 95 % interval."
    if len(letters) > 1:
        note += " Test figures compare among runs tested on the same set (same letter) only, of "
        note += "which the best is of set a."
    if left_out:
        note += f" Left out for want of width: {', '.join(left_out)}."
    return table, note


def _title(column: str) -> str:
    base = base_name(column)
    return f"test {TITLES.get(base, base)}" if column in TEST else column


def _cells(column: str, rows: Sequence[Row]) -> list[str]:
    """Return a metric with its intervals, the best of the runs that compare in bold."""
    comparable = [column not in TEST or row.test_set == rows[0].test_set for row in rows]
    best = best_of(
        column,
        [
            row.metrics.get(column) if same else None
            for row, same in zip(rows, comparable, strict=True)
        ],
    )
    cells = []
    for i, row in enumerate(rows):
        text = show(column, row.metrics.get(column))
        span = show_interval(column, row.interval(column))
        text += f"\n[dim]{span}[/]" if span else ""
        cells.append(f"[bold green]{text}[/]" if i == best else text)
    return cells


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    """Return how wide a table must be to cut nothing but names."""
    content = {t: [t, *cells] for t, cells in columns.items() if t != "run"}
    widths = [max(_cell_width(cell) for cell in cells) for cells in content.values()]
    return _NAME + sum(widths) + 3 * len(columns) + 1  # a border and a space on either side


def _cell_width(cell: str) -> int:
    """Return the width of a cell of several lines with markup."""
    return max(cell_len(line) for line in Text.from_markup(cell).plain.split("\n"))


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
