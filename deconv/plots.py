"""Figures of an evaluation, from the table of `deconv.evaluate.summary_stats`.

Static ones are made with matplotlib, as compute nodes have no browser; the Miami plot
also comes as an interactive page.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deconv.metrics import PRESENT_FROM

_TRUE, _PREDICTED = "#3b6ea5", "#c8553d"
_VISIBLE_FROM = 0.001


def miami(stats: pd.DataFrame) -> Figure:
    """Per tissue, true proportions upward and predicted ones mirrored downward.

    A tissue's samples stand side by side; those that neither have it nor are said to
    have it are left out.
    """
    figure, axes = _figure(12, 5.5)
    for i, (_, rows) in enumerate(_concerned(stats).groupby("tissue", sort=True)):
        # Side by side in the order of the truth, so that a pair shares its place.
        ordered = rows.sort_values("true_proportion")
        x = i + np.linspace(-0.38, 0.38, len(ordered))
        axes.vlines(x, 0, 100 * ordered["true_proportion"], color=_TRUE, linewidth=0.7)
        axes.vlines(x, 0, -100 * ordered["predicted_proportion"], color=_PREDICTED, linewidth=0.7)
    tissues = sorted(_concerned(stats)["tissue"].unique())
    axes.set_xticks(range(len(tissues)), tissues, rotation=60, ha="right")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axes.set_ylim(-105, 105)
    axes.set_ylabel("predicted  |  true  (% of DNA)")
    axes.set_title("Miami plot: true proportions above, predicted below")
    return figure


def miami_html(stats: pd.DataFrame) -> str:
    """Return the Miami plot as a self-contained page; hovering names the sample."""
    return str(interactive_miami(stats).to_html(include_plotlyjs=True, full_html=True))


def interactive_miami(stats: pd.DataFrame) -> go.Figure:
    """Return the Miami plot as a plotly figure; hovering names the sample."""
    ordered = _concerned(stats).sort_values(["tissue", "true_proportion"])
    place = ordered.groupby("tissue").cumcount()
    x = [ordered["tissue"], place]
    figure = go.Figure()
    for column, sign, color in (
        ("true_proportion", 1, _TRUE),
        ("predicted_proportion", -1, _PREDICTED),
    ):
        figure.add_bar(
            x=x,
            y=sign * 100 * ordered[column],
            name=column.removesuffix("_proportion"),
            marker={"color": color, "line": {"width": 0}},
            customdata=np.column_stack([ordered["sample"], 100 * ordered[column]]),
            hovertemplate="%{customdata[0]}: %{customdata[1]:.2f} %",
        )
    figure.update_layout(
        title="Miami plot: true proportions above, predicted below",
        barmode="relative",
        bargap=0,
        template="plotly_white",
        yaxis={"title": "% of DNA", "tickformat": ".0f"},
        xaxis={"showticklabels": True, "title": "tissue, samples by true proportion"},
    )
    return figure


def predicted_against_true(stats: pd.DataFrame) -> Figure:
    """Show a point per sample and tissue, beside the identity line."""
    figure, axes = _figure(5.5, 5.5)
    x, y = 100 * stats["true_proportion"], 100 * stats["predicted_proportion"]
    axes.plot([0, 100], [0, 100], color="grey", linewidth=0.8)
    axes.scatter(x, y, s=4, alpha=0.4, color=_TRUE, edgecolors="none")
    _label(axes, "true (%)", "predicted (%)", "Predicted against true proportions")
    return figure


def error_per_tissue(stats: pd.DataFrame) -> Figure:
    """Mean absolute error of each tissue."""
    error = _absolute_error(stats).groupby(stats["tissue"]).mean().sort_values()
    figure, axes = _figure(6.5, 0.25 * len(error) + 1.5)
    axes.barh(error.index, error, color=_TRUE)
    _label(axes, "mean absolute error (percentage points)", "", "Error per tissue")
    return figure


def error_by_n_tissues(stats: pd.DataFrame) -> Figure:
    """Absolute error of a sample, by the number of tissues present in it."""
    per_sample = pd.DataFrame(
        {
            "error": _absolute_error(stats).groupby(stats["sample"]).mean(),
            "n": (stats["true_proportion"] >= PRESENT_FROM).groupby(stats["sample"]).sum(),
        }
    )
    groups = {str(n): rows["error"].to_numpy() for n, rows in per_sample.groupby("n")}
    figure, axes = _figure(6, 4)
    axes.boxplot(list(groups.values()), flierprops={"markersize": 2})
    axes.set_xticks(range(1, len(groups) + 1), list(groups))
    _label(axes, "tissues present", "mean absolute error (points)", "Error by number of tissues")
    return figure


def reliability(stats: pd.DataFrame) -> Figure:
    """Share of tissues present among those given a presence probability, in ten bins."""
    probability = stats["presence_probability"]
    present = stats["true_proportion"] >= PRESENT_FROM
    bins = np.clip((probability * 10).astype(int), 0, 9)
    share, mean = present.groupby(bins).mean(), probability.groupby(bins).mean()
    figure, axes = _figure(5, 5)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes.plot(mean, share, marker="o", color=_TRUE)
    for x, y, n in zip(mean, share, present.groupby(bins).size(), strict=True):
        axes.annotate(f"{n}", (x, y), textcoords="offset points", xytext=(4, -10), fontsize=7)
    _label(axes, "presence probability", "share present", "Reliability of presence (n per bin)")
    return figure


def evaluation_figures(stats: pd.DataFrame) -> dict[str, Figure]:
    """Return every static figure by file stem; reliability only if there are probabilities."""
    makers: list[Callable[[pd.DataFrame], Figure]] = [
        miami, predicted_against_true, error_per_tissue, error_by_n_tissues,
    ]  # fmt: skip
    if "presence_probability" in stats:
        makers.append(reliability)
    return {maker.__name__: maker(stats) for maker in makers}


def composition(table: pd.DataFrame, *, max_samples: int = 60) -> Figure:
    """Stacked bars of the predicted proportions of samples, for `deconv predict`.

    Of more than ``max_samples`` samples the first are shown, and the title says so.
    """
    wide = table.pivot(index="sample", columns="tissue", values="proportion")
    wide = wide.loc[table["sample"].unique()].fillna(0)  # not assessable: nothing to draw
    shown = wide.iloc[:max_samples]
    shown = shown.loc[:, shown.max() > 0]
    figure, axes = _figure(max(6, 0.22 * len(shown) + 4), 5)
    bottom = np.zeros(len(shown))
    colors = [f"C{i}" for i in range(10)]
    for i, tissue in enumerate(shown.columns):
        height = 100 * shown[tissue].to_numpy()
        axes.bar(
            range(len(shown)), height, bottom=bottom, label=tissue, color=colors[i % 10],
            hatch=["", "//", "..", "xx"][i // 10 % 4], edgecolor="white", linewidth=0.3,
        )  # fmt: skip
        bottom += height
    axes.set_xticks(range(len(shown)), shown.index, rotation=90, fontsize=7)
    title = "Predicted composition"
    if len(wide) > len(shown):
        title += f" (first {len(shown)} of {len(wide)} samples)"
    axes.set_ylim(0, 100)
    _label(axes, "", "% of DNA", title)
    axes.legend(bbox_to_anchor=(1.01, 1), loc="upper left", fontsize=7)
    return figure


def _concerned(stats: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows in which a bar of the Miami plot would be visible."""
    largest = stats[["true_proportion", "predicted_proportion"]].max(axis=1)
    return stats[largest >= _VISIBLE_FROM]


def _absolute_error(stats: pd.DataFrame) -> pd.Series:
    return 100 * (stats["predicted_proportion"] - stats["true_proportion"]).abs()


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    return figure, figure.subplots()


def _label(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title)
