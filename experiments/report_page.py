"""The page of a full evaluation, self-contained; its numbers as JSON, its data as CSV."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs

from deconv import report_tables
from deconv.files import require_page_name, write_text
from deconv.interactive import evaluation_figures
from experiments.report import MODEL, Evaluation

_TITLES = {MODEL: "this model", "nnls": "NNLS", "weighted_nnls": "coverage-weighted NNLS"}
_PERCENT = {"mae", "rmse", "bias", "spurious_mass", "spurious_rate", "width"}
_MEANING = {
    "mae": "mean absolute error of a proportion",
    "mse": "mean squared error",
    "rmse": "root mean squared error",
    "presence_accuracy": "share of right presence calls",
    "presence_balanced_accuracy": "mean of sensitivity and specificity of the calls",
    "presence_precision": "share of called tissues that are present",
    "presence_recall": "share of present tissues that are called",
    "presence_f1": "harmonic mean of precision and recall",
    "presence_auroc": "present ranked above absent, 0.5 is chance",
    "presence_auprc": "average precision over all thresholds",
    "spurious_mass": "DNA given to absent tissues, mean of samples",
    "spurious_rate": "share of absent tissues predicted as if present",
    "prediction_ratio": "predicted / true over present tissues, 1 is best",
    "exact_support": "share of samples with exactly the present tissues called",
}
_HEADINGS = {
    "overall": (
        "Overall",
        "All metrics of the model, beside the classical baselines and beside giving every "
        "tissue the same share.",
    ),
    "per_tissue": (
        "Per tissue",
        "Bias: mean of predicted - true. Spurious mass: mean prediction in the samples "
        "without the tissue. A dash: not defined, as no sample has the tissue or none is called.",
    ),
    "by_n_tissues": (
        "By number of tissues present",
        "Each row is over the samples with so many tissues present.",
    ),
}
# Nothing may be loaded from anywhere, whatever a name in the data says.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)


def write_report(evaluation: Evaluation, output: Path) -> list[Path]:
    """Write the page, its numbers as JSON and the predictions as CSV, and return the paths.

    Raises
    ------
    InputError
        If ``output`` is not an .html file's name.
    """
    require_page_name(output)
    tables = _tables(evaluation)
    stats = evaluation.results[MODEL]
    contents = {
        output: _page(evaluation, tables),
        output.with_suffix(".json"): json.dumps(
            {"facts": evaluation.facts, **{name: _records(t) for name, t in tables.items()}},
            indent=1, allow_nan=False,
        ),
        output.with_name("summary_stats.csv"): stats.to_csv(index=False),
    }  # fmt: skip
    for path, text in contents.items():
        write_text(path, text)
    return list(contents)


def _tables(evaluation: Evaluation) -> dict[str, pd.DataFrame]:
    """Return every table of the report, in the order of its page."""
    stats, present_from = evaluation.results[MODEL], evaluation.present_from
    order = {metric: place for place, metric in enumerate(_MEANING)}
    overall = report_tables.overall(evaluation.results, present_from)
    tables = {
        "overall": overall.loc[sorted(overall.index, key=lambda m: order.get(m, len(order)))],
        "per_tissue": report_tables.per_tissue(stats, present_from),
        "by_n_tissues": report_tables.by_n_tissues(stats, present_from),
        "best": report_tables.ranked_samples(stats, evaluation.coverage, worst=False),
        "worst": report_tables.ranked_samples(stats, evaluation.coverage, worst=True),
        "mass_confusion": report_tables.mass_confusion(stats, present_from),
    }
    if "presence_probability" in stats:
        tables["reliability"] = report_tables.reliability(stats, present_from)
    if set(report_tables.INTERVALS) <= set(stats):
        tables["intervals"] = report_tables.interval_coverage(stats)
    return tables


def _records(table: pd.DataFrame) -> Any:
    """Return a table as JSON: a row each, with its name; what is not defined is null."""
    named = table.reset_index() if table.index.name else table
    return json.loads(named.to_json(orient="records", double_precision=15))


def _page(evaluation: Evaluation, tables: dict[str, pd.DataFrame]) -> str:
    figures = evaluation_figures(evaluation.results[MODEL], evaluation.present_from)
    template = (resources.files("experiments") / "report.html.j2").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(template).render(
        title=evaluation.title,
        facts=evaluation.facts,
        tables={name: _shown_table(name, tables[name]) for name in _HEADINGS},
        ranked={
            name: {
                "title": f"{name.capitalize()} predictions",
                "samples": _shown_samples(tables[name], evaluation.present_from),
            }
            for name in ("best", "worst")
        },
        figures={
            caption: figure.to_html(
                full_html=False, include_plotlyjs=False, div_id=f"plot-{i}",
                config={"displaylogo": False, "responsive": True},
            )
            for i, (caption, figure) in enumerate(figures.items())
        },
        meaning=_MEANING, policy=_POLICY, plotlyjs=get_plotlyjs(),
    )  # fmt: skip


def _shown_table(name: str, table: pd.DataFrame) -> dict[str, Any]:
    title, note = _HEADINGS[name]
    columns = [table.index.name, *(_TITLES.get(c, c) for c in table.columns)]
    rows = [
        [str(index), *(_shown(index if name == "overall" else c, v) for c, v in row.items())]
        for index, row in table.astype(object).iterrows()
    ]
    return {
        "title": title,
        "note": note,
        "columns": [str(c).replace("_", " ") for c in columns],
        "rows": rows,
    }


def _shown_samples(table: pd.DataFrame, present_from: float) -> list[dict[str, Any]]:
    samples = []
    for name, rows in table.groupby("sample", sort=False):
        first = rows.iloc[0]
        tissues = [
            {
                "tissue": row["tissue"],
                "true": f"{100 * row['true_proportion']:.1f}",
                "predicted": f"{100 * row['predicted_proportion']:.1f}",
                "wrong": (row["call"] == "detected") != (row["true_proportion"] >= present_from),
            }
            for _, row in rows.iterrows()
        ]
        shown = {column: _shown(column, first[column]) for column in ("mae", "coverage")}
        samples.append({"sample": name, **shown, "tissues": tissues})
    return samples


def _shown(name: object, value: float) -> str:
    """Return a number as people read it: fractions of DNA in percent, NaN as a dash."""
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if np.isnan(value):
        return "\N{EN DASH}"
    if name in _PERCENT:
        return f"{100 * value:.3f} %"
    return format(value, {"mse": ".2e", "coverage": ".1f"}.get(str(name), ".3f"))
