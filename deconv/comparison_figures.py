"""Interactive figures of several methods or runs side by side, each named by a short label."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import qualitative
from plotly.subplots import make_subplots

from deconv.report_tables import VISIBLE_FROM

_COLORS = qualitative.D3
_SETS = {"val": "solid", "train": "dot"}
_TRUE = "#7f7f7f"
_LEGEND = {"orientation": "h", "y": 1.05, "yanchor": "bottom", "x": 0}
Curve = Sequence[tuple[int, float]]


def color_of(labels: Sequence[str], label: str) -> str:
    """Return the colour of a run: the same in every figure."""
    return str(_COLORS[list(labels).index(label) % len(_COLORS)])


def curves(
    found: Mapping[str, Mapping[str, Curve]], names: Sequence[str], percent: Sequence[str]
) -> go.Figure:
    """Overlay the curves of runs: a panel for each of ``names``, training dotted.

    Parameters
    ----------
    found
        By label, then by metric (``train/loss``): (epoch, value) pairs.
    percent
        Names that are shown in percent.
    """
    used = [n for n in names if any(f"{s}/{n}" in c for c in found.values() for s in _SETS)]
    n_rows = max(-(-len(used) // 2), 1)
    titles = [n.replace("_", " ") + (" (%)" if n in percent else "") for n in used]
    figure = make_subplots(
        rows=n_rows, cols=2, subplot_titles=titles, vertical_spacing=0.3 / n_rows,
        horizontal_spacing=0.09,
    )  # fmt: skip
    labelled = set()
    for place, name in enumerate(used):
        scale = 100 if name in percent else 1
        for label, metrics in found.items():
            for part, dash in _SETS.items():
                points = metrics.get(f"{part}/{name}", [])
                if not points:
                    continue
                x, y = zip(*points, strict=True)
                figure.add_scatter(
                    x=x, y=scale * np.array(y), mode="lines+markers" if len(x) < 5 else "lines",
                    name=escape(label), legendgroup=label, showlegend=label not in labelled,
                    line={"color": color_of(list(found), label), "dash": dash, "width": 1.8},
                    hovertemplate="epoch %{x}: %{y:.4g}",
                    row=place // 2 + 1, col=place % 2 + 1,
                )  # fmt: skip
                labelled.add(label)
    figure.update_xaxes(title="epoch", title_standoff=4, rangemode="tozero")
    return figure.update_layout(height=110 + 260 * n_rows, legend=_LEGEND)


def tissue_error(table: pd.DataFrame) -> go.Figure:
    """Mean absolute error of each tissue (rows), a mark for each run (columns)."""
    ordered = table.loc[table.mean(axis=1).sort_values().index]
    labels = list(table.columns)
    figure = go.Figure()
    for label in labels:
        figure.add_scatter(
            x=100 * ordered[label], y=[escape(str(t)) for t in ordered.index], mode="markers",
            name=escape(label), marker={"size": 9, "color": color_of(labels, label)},
            hovertemplate="%{y}: %{x:.3f} points",
        )  # fmt: skip
    figure.update_layout(
        height=140 + 22 * len(ordered),
        xaxis={"title": "mean absolute error (percentage points)", "rangemode": "tozero"},
        yaxis={"automargin": True, "dtick": 1}, legend=_LEGEND,
    )  # fmt: skip
    return figure


def tissue_difference(table: pd.DataFrame) -> go.Figure:
    """Heat map: how much larger the error of a tissue (rows) is than that of the first column."""
    first, *others = table.columns
    difference = 100 * table[others].sub(table[first], axis=0)
    largest = float(np.nanmax(np.abs(difference.to_numpy()), initial=1e-9))
    figure = go.Figure()
    figure.add_heatmap(
        z=difference.to_numpy(),
        x=[f"{escape(str(label))} - {escape(str(first))}" for label in others],
        y=[escape(str(t)) for t in difference.index],
        texttemplate="%{z:+.3f}",
        colorscale="RdBu_r", zmin=-largest, zmax=largest,
        colorbar={"title": {"text": "points"}},
        hovertemplate="%{y}, %{x}: %{z:+.3f} points<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        height=140 + 22 * len(difference),
        yaxis={"automargin": True, "autorange": "reversed", "dtick": 1},
    )
    return figure


def miami_grid(stats: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Miami plots side by side: true proportions upward, predicted ones downward.

    Each bar of the plot is a stretch of one line, as tens of thousands of bars of their own
    would stop a browser.
    """
    tissues = sorted({t for table in stats.values() for t in _concerned(table)["tissue"]})
    n_rows = -(-len(stats) // 2)
    figure = make_subplots(
        rows=n_rows, cols=2, subplot_titles=[escape(s) for s in stats], shared_yaxes=True,
        vertical_spacing=0.45 / n_rows, horizontal_spacing=0.04,
    )  # fmt: skip
    for place, (label, table) in enumerate(stats.items()):
        shown = _concerned(table).sort_values(["tissue", "true_proportion"])
        rank = shown.groupby("tissue").cumcount()
        size = shown.groupby("tissue")["tissue"].transform("size")
        offset = np.where(size > 1, 0.76 * rank / np.maximum(size - 1, 1) - 0.38, 0)
        x = shown["tissue"].map({t: i for i, t in enumerate(tissues)}) + offset
        for column, sign, color in (
            ("true_proportion", 1, _TRUE),
            ("predicted_proportion", -1, color_of(list(stats), label)),
        ):
            zero, end = np.zeros(len(shown)), (sign * 100 * shown[column]).round(2)
            gap = np.full(len(shown), np.nan)
            names, none = [escape(str(s)) for s in shown["sample"]], [""] * len(shown)
            figure.add_scatter(
                x=np.column_stack([x, x, x]).ravel().astype(np.float32),
                y=np.column_stack([zero, end, gap]).ravel().astype(np.float32),
                mode="lines", name=column.removesuffix("_proportion"), showlegend=False,
                line={"color": color, "width": 1}, connectgaps=False,
                text=np.column_stack([none, names, none]).ravel(),
                hovertemplate="%{text}: %{y:.2f} %",
                row=place // 2 + 1, col=place % 2 + 1,
            )  # fmt: skip
    figure.update_xaxes(
        tickvals=list(range(len(tissues))), ticktext=[escape(t) for t in tissues], tickangle=-60,
        range=[-0.6, len(tissues) - 0.4], showgrid=False,
    )  # fmt: skip
    percents = [-100, -50, 0, 50, 100]
    figure.update_yaxes(
        tickvals=percents, ticktext=[str(abs(p)) for p in percents], range=[-105, 105]
    )
    figure.update_yaxes(title="predicted | true (% of DNA)", title_standoff=4, col=1)
    return figure.update_layout(height=60 + 400 * n_rows)


def metric_intervals(
    values: Mapping[str, Mapping[str, float]],
    intervals: Mapping[str, Mapping[str, tuple[float, float]]],
    percent: Sequence[str],
) -> go.Figure:
    """Show each metric of runs with its interval, a panel per metric.

    Parameters
    ----------
    values, intervals
        By label, then by metric; those of the first are shown as far as there are intervals.
    percent
        Names of metrics that are shown in percent.
    """
    names = list(dict.fromkeys(n for found in intervals.values() for n in found))
    n_rows = max(-(-len(names) // 2), 1)
    labels = list(values)
    titles = [n.replace("_", " ") + (" (%)" if n in percent else "") for n in names]
    figure = make_subplots(
        rows=n_rows, cols=2, subplot_titles=titles, vertical_spacing=0.3 / n_rows,
        horizontal_spacing=0.09,
    )  # fmt: skip
    for place, name in enumerate(names):
        scale = 100 if name in percent else 1
        for label in labels:
            if name not in intervals.get(label, {}) or name not in values[label]:
                continue
            value, (low, high) = values[label][name], intervals[label][name]
            figure.add_scatter(
                x=[scale * value], y=[escape(label)], mode="markers", showlegend=False,
                marker={"size": 9, "color": color_of(labels, label)},
                error_x={"type": "data", "symmetric": False, "array": [scale * (high - value)],
                         "arrayminus": [scale * (value - low)], "thickness": 1.6},
                hovertemplate=f"%{{x:.4g}} ({scale * low:.4g} to {scale * high:.4g})",
                name=escape(label), row=place // 2 + 1, col=place % 2 + 1,
            )  # fmt: skip
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=[escape(s) for s in labels[::-1]]
    )
    return figure.update_layout(height=60 + (90 + 26 * len(labels)) * n_rows)


def _concerned(stats: pd.DataFrame) -> pd.DataFrame:
    largest = stats[["true_proportion", "predicted_proportion"]].max(axis=1)
    return stats[largest >= VISIBLE_FROM]
