"""Interactive figures of an evaluation, for pages; `deconv.plots` has the static ones."""

from html import escape

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import qualitative
from plotly.subplots import make_subplots

from deconv.metrics import PRESENT_FROM
from deconv.plots import interactive_miami
from deconv.report_tables import (
    INTERVALS,
    VISIBLE_FROM,
    by_n_tissues,
    interval_coverage,
    mass_confusion,
    per_tissue,
    reliability,
)

_TRUE, _PREDICTED, _GREY = "#3b6ea5", "#c8553d", "#9a9a9a"
_IDENTITY = {"color": _GREY, "width": 1}


def evaluation_figures(stats: pd.DataFrame, present_from: float) -> dict[str, go.Figure]:
    """Return every figure by its caption; those without data in the table are left out.

    Names of samples and tissues are shown as they are: plotly would read them as HTML.
    """
    named = ["sample", "tissue"]
    stats = stats.assign(**{c: stats[c].astype(str).map(escape) for c in named})
    figures = {
        "Miami plot: true proportions above, predicted below": miami(stats),
        "Predicted against true proportions": predicted_against_true(stats),
        "Error per tissue": error_per_tissue(stats, present_from),
        "Error by number of tissues": error_by_n_tissues(stats, present_from),
        "Where spurious mass goes": spurious_mass(stats, present_from),
    }
    if "presence_probability" in stats:
        figures["Reliability of presence"] = presence_reliability(stats, present_from)
    if set(INTERVALS) <= set(stats):
        figures["Intervals of the proportions"] = intervals(stats)
    for figure in figures.values():
        # Captions are the page's; what is left of plotly's margins is for labels.
        figure.update_layout(
            title=None, template="plotly_white", font={"family": "system-ui, sans-serif"},
            margin={"t": 30, "r": 20, "b": 60, "l": 60},
        )  # fmt: skip
    return figures


def miami(stats: pd.DataFrame) -> go.Figure:
    """Show the Miami plot of `deconv.plots`, with a tick for a tissue and none for a sample."""
    figure = interactive_miami(stats)
    tissues = pd.Series(figure.data[0].x[0])
    middle = pd.Series(tissues.index).groupby(tissues.to_numpy()).mean()
    figure.update_traces(x=list(tissues.index))
    figure.update_xaxes(
        type="linear", tickvals=list(middle), ticktext=list(middle.index), tickangle=-60,
        showgrid=False,
    )  # fmt: skip
    percents = [-100, -50, 0, 50, 100]
    figure.update_yaxes(tickvals=percents, ticktext=[str(abs(p)) for p in percents])
    return figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})


def composition(table: pd.DataFrame) -> go.Figure:
    """Show the proportions of samples as stacked bars, from the table of `deconv predict`.

    The tissues that make up most come first; those of less than 1 % in all samples are summed.
    """
    wide = table.pivot(index="sample", columns="tissue", values="proportion")
    wide = wide.loc[table["sample"].unique()].fillna(0)  # not assessable: nothing to draw
    if "out_of_atlas" in table:
        wide["out of atlas"] = table.groupby("sample")["out_of_atlas"].first()
    rare = wide.columns[wide.max() < PRESENT_FROM]
    wide = wide.drop(columns=rare).assign(other=wide[rare].sum(axis=1))
    order = wide.drop(columns="other").sum().sort_values(ascending=False).index
    shown = [*order, *(["other"] if wide["other"].any() else [])]
    colors = qualitative.Dark24 + qualitative.Light24
    figure = go.Figure()
    names = [escape(str(name)) for name in wide.index]
    grey = {"out of atlas": "#8a8a8a", "other": "#cccccc"}
    for i, tissue in enumerate(shown):
        color = grey.get(tissue, colors[i % len(colors)])
        figure.add_bar(
            y=names, x=100 * wide[tissue], name=escape(str(tissue)), orientation="h",
            marker={"color": color}, hovertemplate="%{y}: %{x:.2f} %",
        )  # fmt: skip
    return figure.update_layout(
        barmode="stack", template="plotly_white", font={"family": "system-ui, sans-serif"},
        height=max(110 + 30 * len(wide), 100 + 20 * len(shown)), bargap=0.25,
        margin={"t": 20, "r": 20, "b": 50, "l": 60},
        xaxis={"title": "% of DNA", "range": [0, 100]},
        yaxis={"automargin": True, "autorange": "reversed", "type": "category", "dtick": 1,
               "ticksuffix": "  "},
        legend={"traceorder": "normal"}, showlegend=True,
    )  # fmt: skip


def predicted_against_true(stats: pd.DataFrame) -> go.Figure:
    """Show a point per sample and tissue, one tissue or all; those near 0 in both are left out."""
    largest = stats[["true_proportion", "predicted_proportion"]].max(axis=1)
    shown = stats[largest >= VISIBLE_FROM]
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", line=_IDENTITY, hoverinfo="skip", showlegend=False
    )
    tissues = sorted(shown["tissue"].unique())
    for tissue in tissues:
        rows = shown[shown["tissue"] == tissue]
        figure.add_scatter(
            x=100 * rows["true_proportion"],
            y=100 * rows["predicted_proportion"],
            mode="markers",
            name=tissue,
            customdata=rows["sample"].to_numpy()[:, None],
            hovertemplate="%{customdata[0]}: true %{x:.2f} %, predicted %{y:.2f} %",
            marker={"size": 5, "opacity": 0.6},
        )
    figure.update_layout(
        height=680,
        legend={"orientation": "h", "y": -0.12},
        xaxis={"title": "true (% of DNA)", "rangemode": "tozero"},
        yaxis={"title": "predicted (% of DNA)", "rangemode": "tozero"},
        updatemenus=[_choice(tissues)],
    )
    return figure


def error_per_tissue(stats: pd.DataFrame, present_from: float) -> go.Figure:
    """Mean absolute error of each tissue, the largest on top, and how far it is off on average."""
    table = per_tissue(stats, present_from).sort_values("mae")
    figure = go.Figure()
    figure.add_bar(
        x=100 * table["mae"], y=table.index, orientation="h", name="mean absolute error",
        marker={"color": _TRUE}, hovertemplate="%{y}: %{x:.3f} points",
    )  # fmt: skip
    figure.add_scatter(
        x=100 * table["bias"], y=table.index, mode="markers", name="bias (predicted - true)",
        marker={"color": _PREDICTED, "symbol": "diamond", "size": 8},
        hovertemplate="%{y}: %{x:+.3f} points",
    )  # fmt: skip
    figure.update_layout(
        height=140 + 22 * len(table),
        xaxis={"title": "percentage points"},
        yaxis={"automargin": True, "dtick": 1},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    return figure


def error_by_n_tissues(stats: pd.DataFrame, present_from: float) -> go.Figure:
    """Error of each sample, by the number of tissues present in it."""
    error = (stats["predicted_proportion"] - stats["true_proportion"]).abs()
    mae = 100 * error.groupby(stats["sample"]).mean()
    n_present = (stats["true_proportion"] >= present_from).groupby(stats["sample"]).sum()
    figure = go.Figure()
    for n, row in by_n_tissues(stats, present_from).iterrows():
        values = mae[n_present == n]
        figure.add_box(
            y=values, name=f"{n} (n = {int(row['n_samples'])})", text=values.index,
            marker={"color": _TRUE, "size": 4}, hovertemplate="%{text}: %{y:.3f} points",
        )  # fmt: skip
    figure.update_layout(
        height=420,
        showlegend=False,
        xaxis={"title": "tissues present", "type": "category"},
        yaxis={"title": "mean absolute error (points)", "rangemode": "tozero"},
    )
    return figure


def spurious_mass(stats: pd.DataFrame, present_from: float) -> go.Figure:
    """Heat map: which absent tissue (across) gets mass when a tissue (down) is present."""
    table = 100 * mass_confusion(stats, present_from)
    figure = go.Figure()
    figure.add_heatmap(
        z=table.to_numpy(),
        x=list(table.columns),
        y=list(table.index),
        colorscale="Blues",
        zmin=0,
        colorbar={"title": {"text": "% of DNA"}},
        hovertemplate="%{y} present: %{x}, absent, gets %{z:.3f} %<extra></extra>",
        hoverongaps=False,
    )
    figure.update_layout(
        height=220 + 22 * len(table),
        xaxis={"title": "absent", "automargin": True, "tickangle": -60, "dtick": 1},
        yaxis={"title": "present", "automargin": True, "autorange": "reversed", "dtick": 1},
        xaxis_showgrid=False, yaxis_showgrid=False,
    )  # fmt: skip
    return figure


def presence_reliability(stats: pd.DataFrame, present_from: float) -> go.Figure:
    """Share present among tissues of like presence probability, above the number of each."""
    table = reliability(stats, present_from)
    figure = _two_rows()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line=_IDENTITY, hoverinfo="skip", row=1, col=1
    )
    figure.add_scatter(
        x=table["mean_probability"], y=table["share_present"], mode="lines+markers",
        line={"color": _TRUE}, customdata=table[["n"]],
        hovertemplate="probability %{x:.3f}: %{y:.3f} present (n = %{customdata[0]})",
        row=1, col=1,
    )  # fmt: skip
    figure.add_bar(
        x=table["from"] + 0.05, y=table["n"], width=0.1, text=table["n"], textposition="outside",
        cliponaxis=False, marker={"color": _TRUE}, hovertemplate="n = %{y}", row=2, col=1,
    )  # fmt: skip
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_xaxes(title="presence probability", row=2, col=1)
    figure.update_yaxes(title="share present", range=[-0.04, 1.04], row=1, col=1)
    figure.update_yaxes(title="number", type="log", dtick=1, row=2, col=1)
    return figure


def intervals(stats: pd.DataFrame) -> go.Figure:
    """Share of intervals that hold the truth, above their mean width, by true fraction."""
    table = interval_coverage(stats)
    figure = _two_rows()
    figure.add_bar(
        x=table.index, y=100 * table["coverage"], text=[f"n = {n}" for n in table["n"]],
        marker={"color": _TRUE}, hovertemplate="%{y:.1f} % hold the truth (%{text})",
        row=1, col=1,
    )  # fmt: skip
    figure.add_bar(
        x=table.index, y=100 * table["width"], marker={"color": _PREDICTED},
        hovertemplate="%{y:.2f} points wide", row=2, col=1,
    )  # fmt: skip
    figure.update_xaxes(type="category")
    figure.update_xaxes(title="true proportion", row=2, col=1)
    figure.update_yaxes(title="hold the truth (%)", range=[0, 105], row=1, col=1)
    figure.update_yaxes(title="width (points)", row=2, col=1)
    return figure


def _choice(tissues: list[str]) -> dict[str, object]:
    """Return a menu that shows all tissues or one; the first trace is the identity line."""
    every = {"label": "All tissues", "method": "update", "args": [{"visible": True}]}
    one = [
        {"label": t, "method": "update", "args": [{"visible": [True, *(u == t for u in tissues)]}]}
        for t in tissues
    ]
    return {"buttons": [every, *one], "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}


def _two_rows() -> go.Figure:
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.06
    )
    return figure.update_layout(height=560, showlegend=False)
