"""A comparison of runs as people read it: tables for a terminal, one self-contained page."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from deconv.benchmarks.bootstrap import BOOTSTRAPPED, Difference
from deconv.files import write_text
from deconv.metrics import HEADLINE
from experiments.comparison import CURVES, Comparison, Curve
from experiments.metric_names import (
    PERCENT,
    base_name,
    best_of,
    show,
    show_interval,
    smaller_is_better,
)

_SIGNIFICANT = 0.05
_SHORT = (*(f"test/{name}" for name in HEADLINE), "test/wrong_calls", "best/val/mae", "best/epoch")
# Nothing may be loaded from anywhere, whatever a name in the data says.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)
PAIRED_NOTE = (
    "Metric of the run less that of {first}, on the same samples, with its 95 % interval "
    "(paired bootstrap over samples). p: two-sided, adjusted for the number of runs (Holm). "
    "A tissue counts as present from 1 %."
)


def comparison_tables(found: Comparison) -> RenderableType:
    """Return what the terminal shows."""
    runs = Table(title="runs", title_justify="left")
    for column in ("", "run", "MLflow id", "status"):
        runs.add_column(column, overflow="fold")
    for side in found.sides:
        info = side.run.info
        runs.add_row(side.letter, escape(side.name), info.run_id, info.status)
    parts: list[RenderableType] = [runs]
    if len(found.differing):
        parts.append(_table("what differs", _differing_rows(found), found))
    else:
        parts.append("The runs have the same settings, data and code.")
    parts.append(_table("metrics (95 % interval)", _metric_rows(found, short=True), found))
    if len(found.tissues):
        parts.append(_table("mean absolute error per tissue", _tissue_rows(found), found))
    parts += _pair_lines(found)
    return Group(*parts)


def write_page(
    found: Comparison, curves: Mapping[str, Mapping[str, Curve]], path: Path
) -> None:  # fmt: skip
    """Write the page."""
    from plotly.offline import get_plotlyjs

    figures = _figures(found, curves)
    bold = "Bold: the best of the runs tested on the mixtures of the first one."
    template = (resources.files("experiments") / "compare.html.j2").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    text = environment.from_string(template).render(
        sides=found.sides,
        tables={
            "differing": ("What differs", "", _differing_rows(found)),
            "metrics": (
                "Metrics",
                f"{bold} Below a value: its 95 % interval over samples.",
                _metric_rows(found, short=False),
            ),
            "tissues": (
                "Mean absolute error per tissue", bold, _tissue_rows(found)
            ),
        },
        paired_note=PAIRED_NOTE.format(first=found.sides[0].letter),
        pairs={letter: _pair_rows(pairs) for letter, pairs in found.pairs.items()},
        refused=found.refused,
        figures={
            caption: figure.to_html(
                full_html=False, include_plotlyjs=False, div_id=f"plot-{i}",
                config={"displaylogo": False, "responsive": True},
            )
            for i, (caption, figure) in enumerate(figures.items())
        },
        policy=_POLICY, plotlyjs=get_plotlyjs(),
    )  # fmt: skip
    write_text(path, text)


def _figures(found: Comparison, curves: Mapping[str, Mapping[str, Curve]]) -> dict[str, Any]:
    from deconv import comparison_figures as draw  # plotly

    label = {side.letter: f"{side.letter} {_short(side.name)}" for side in found.sides}
    figures = {
        "Curves: validation solid, training dotted": draw.curves(
            {label[k]: v for k, v in curves.items()}, CURVES, sorted(PERCENT)
        )
    }
    if any(found.intervals.values()):
        values = {
            k: {base_name(str(n)): v for n, v in found.metrics[k].dropna().items()
                       if not str(n).startswith("best/") or n in found.intervals[k]}
            for k in label
        }  # fmt: skip
        spans = {
            k: {base_name(n): s for n, s in part.items()} for k, part in found.intervals.items()
        }
        figures["Metrics with 95 % intervals"] = draw.metric_intervals(
            values, spans, sorted(PERCENT)
        )
    if len(found.tissues):
        figures["Error per tissue"] = draw.tissue_error(found.tissues.rename(columns=label))
    paired = [found.sides[0].letter, *found.pairs]
    if len(paired) > 1:
        figures["Error per tissue less that of the first run (red: larger)"] = (
            draw.tissue_difference(found.tissues[paired])
        )
    stats = {label[s.letter]: s.stats for s in found.sides if s.stats is not None}
    if stats:
        figures["Miami plots: true proportions above, predicted below"] = draw.miami_grid(stats)
    for figure in figures.values():
        figure.update_layout(
            template="plotly_white", font={"family": "system-ui, sans-serif"},
            margin={"t": 50, "r": 20, "b": 60, "l": 60},
        )  # fmt: skip
    return figures


def _differing_rows(found: Comparison) -> list[tuple[str, list[dict[str, Any]]]]:
    return [
        (str(name), [{"text": _shorter(v), "small": "", "best": False} for v in row])
        for name, row in found.differing.iterrows()
    ]


def _metric_rows(
    found: Comparison, *, short: bool
) -> list[tuple[str, list[dict[str, Any]]]]:  # fmt: skip
    rows = []
    for name, values in found.metrics.iterrows():
        if short and name not in _SHORT:
            continue
        spans = [found.intervals[letter].get(str(name)) for letter in found.metrics.columns]
        rows.append((str(name), _cells(str(name), list(values), spans, found)))
    return rows


def _tissue_rows(found: Comparison) -> list[tuple[str, list[dict[str, Any]]]]:
    table = found.tissues.reindex(columns=[side.letter for side in found.sides])
    return [
        (str(tissue), _cells("mae", list(row), [None] * len(row), found))
        for tissue, row in table.iterrows()
    ]


def _cells(
    metric: str,
    values: list[float],
    spans: list[tuple[float, float] | None],
    found: Comparison,
) -> list[dict[str, Any]]:
    """Return cells with the best marked, among the runs with the test of the first."""
    judged = [
        value if side.letter not in found.refused else None
        for side, value in zip(found.sides, values, strict=True)
    ]
    best = best_of(metric, judged)
    top = None if best is None or len(set(judged)) == 1 else judged[best]
    return [
        {
            "text": show(metric, value),
            "small": show_interval(metric, span),
            "best": top is not None and judge == top,
        }
        for value, judge, span in zip(values, judged, spans, strict=True)
    ]


def _pair_rows(pairs: Mapping[str, Difference]) -> list[dict[str, Any]]:
    rows = []
    for name in BOOTSTRAPPED:
        if name not in pairs:
            continue
        d = pairs[name]
        scale, unit = (100, " points") if name in PERCENT else (1, "")
        smaller = smaller_is_better(name)
        verdict = "no difference shown"
        if d.p_value < _SIGNIFICANT:
            verdict = "differs"
            if smaller is not None:
                verdict = "better" if (d.value < 0) == smaller else "worse"
        rows.append(
            {
                "metric": name.replace("_", " "),
                "difference": f"{scale * d.value:+.4f}{unit}",
                "interval": f"{scale * d.low:+.4f} to {scale * d.high:+.4f}",
                "p": "< 0.001" if d.p_value < 0.001 else f"{d.p_value:.3f}",
                "verdict": verdict,
            }
        )
    return rows


def _pair_lines(found: Comparison) -> list[RenderableType]:
    first = found.sides[0].letter
    lines: list[RenderableType] = []
    colors = {"better": "green", "worse": "red"}
    for letter, pairs in found.pairs.items():
        table = Table(title=f"{letter} less {first}, on the same samples", title_justify="left")
        for column in ("metric", "difference", "95 % interval", "p", ""):
            table.add_column(column, justify="right" if column not in ("metric", "") else "left")
        for row in _pair_rows(pairs):
            verdict = row["verdict"]
            shown = f"[{colors[verdict]}]{verdict}[/]" if verdict in colors else verdict
            table.add_row(row["metric"], row["difference"], row["interval"], row["p"], shown)
        lines.append(table)
    if found.pairs:
        lines.append(f"[dim]{PAIRED_NOTE.format(first=first)}[/]")
    for letter, reason in found.refused.items():
        lines.append(f"[yellow]{letter} is not compared with {first} by sample:[/] {reason}")
    return lines


def _table(title: str, rows: list[tuple[str, list[dict[str, Any]]]], found: Comparison) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", overflow="fold")
    for side in found.sides:
        table.add_column(side.letter, justify="right", overflow="fold")
    for name, cells in rows:
        shown = []
        for cell in cells:
            text = escape(cell["text"])
            text = f"[bold green]{text}[/]" if cell["best"] else text
            shown.append(f"{text}\n[dim]{cell['small']}[/]" if cell["small"] else text)
        table.add_row(escape(name), *shown)
    return table


def _shorter(value: str | None) -> str:
    """Return a setting's value; of a hash the first digits."""
    if value is None or pd.isna(value):
        return "\N{EN DASH}"
    return value[:12] if len(value) in (16, 40, 64) and value.isalnum() else value


def _short(name: str) -> str:
    """Return a run's name without the random letters that end it."""
    return name if len(name) <= 32 else name[:31] + "\N{HORIZONTAL ELLIPSIS}"
