"""Pages of quality and predictions: self-contained, nothing is loaded from anywhere."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from deconv.findings import SEVERITIES, Finding
from deconv.interactive import composition
from deconv.quality import Measured
from deconv.reported import NOT_ASSESSABLE
from experiments.predict import Prediction

# Whatever a name in the data says, nothing is fetched.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)
_ORDER = {"detected": 0, NOT_ASSESSABLE: 1, "not detected": 2}
_DASH = "\N{EN DASH}"


def check_page(prediction: Prediction) -> str:
    """Return the page of `deconv check`."""
    measured = prediction.measured
    return _render(
        "check.html.j2",
        title="Quality of samples",
        facts=_facts(prediction),
        findings=prediction.findings,
        counts=_severity_counts(prediction.findings),
        samples=[] if measured is None else _sample_rows(prediction, measured),
        tissues=[] if measured is None else list(measured.tissues),
        markers=[] if measured is None else _marker_rows(measured),
        notes=prediction.notes,
    )


def sample_page(prediction: Prediction, sample: str) -> str:
    """Return the report of a sample."""
    measured = prediction.measured
    assert measured is not None
    at = list(map(str, measured.table.index)).index(sample)
    table = prediction.table
    rows = table[table["sample"].astype(str) == sample]
    order = rows["call"].map(_ORDER)
    rows = rows.assign(order=order).sort_values(["order", "proportion"], ascending=[True, False])
    n_observed = dict(zip(measured.tissues, measured.observed[at], strict=True))
    n_informative = dict(zip(measured.tissues, measured.n_informative, strict=True))
    has_intervals = "interval_low" in rows and bool(rows["interval_low"].notna().any())
    largest = rows[["proportion", "interval_high"] if has_intervals else ["proportion"]].max()
    scale = max(float(largest.max()), 0.01)
    tissues = [
        {
            **_tissue_row(row, scale),
            "markers": f"{n_observed[row['tissue']]} of {n_informative[row['tissue']]}",
        }
        for _, row in rows.iterrows()
    ]
    quality = measured.table.iloc[at]
    out_of_atlas = rows["out_of_atlas"].iloc[0] if "out_of_atlas" in rows else np.nan
    facts = {
        "regions observed": f"{quality['n_observed']:,} of {measured.n_regions:,}",
        "mean coverage": f"{quality['coverage']:.1f} observations per region",
        "misfit": f"{quality['misfit']:.2f} (about 1 is good)",
        "out of atlas": _percent(out_of_atlas),
        "data SHA-256": quality["content"],
    }
    for name in ("donor", "tissue", "group", "conversion"):
        if name in quality and pd.notna(quality[name]):
            facts[name] = str(quality[name])
    return _render(
        "sample.html.j2",
        title=f"Sample {sample}",
        facts=_facts(prediction),
        sample_facts=facts,
        tissues=tissues,
        has_intervals=has_intervals,
        findings=[f for f in prediction.findings if f.sample == sample],
    )


def index_page(prediction: Prediction, page_names: Mapping[str, str]) -> str:
    """Return the page of all samples: a chart, and a row with a link for each."""
    figure = composition(prediction.table)
    measured = prediction.measured
    assert measured is not None
    return _render(
        "index.html.j2",
        title="Predicted composition",
        facts=_facts(prediction),
        figure=figure.to_html(
            full_html=False, include_plotlyjs=False, div_id="composition",
            config={"displaylogo": False, "responsive": True},
        ),
        plotlyjs=get_plotlyjs(),
        findings=prediction.findings,
        counts=_severity_counts(prediction.findings),
        samples=_sample_rows(prediction, measured),
        pages=page_names,
    )  # fmt: skip


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("experiments"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(template).render(policy=POLICY, **values)


def _facts(prediction: Prediction) -> dict[str, str]:
    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {**prediction.model.facts, "date": now}


def _severity_counts(findings: list[Finding]) -> dict[str, int]:
    return {s: sum(f.severity == s for f in findings) for s in SEVERITIES}


def _sample_rows(prediction: Prediction, measured: Measured) -> list[dict[str, Any]]:
    table = prediction.table
    worst = {f.sample: f.severity for f in reversed(prediction.findings)}
    rows = []
    for i, (name, row) in enumerate(measured.table.iterrows()):
        sample = str(name)
        of_sample = table[table["sample"].astype(str) == sample] if len(table) else table
        detected = of_sample[of_sample["call"] == "detected"] if len(of_sample) else of_sample
        top = detected.sort_values("proportion", ascending=False) if len(detected) else detected
        hidden = 0
        if len(of_sample):
            hidden = int((of_sample["call"] == NOT_ASSESSABLE).sum())
        rows.append(
            {
                "sample": sample,
                "worst": worst.get(sample, "good"),
                "observed": f"{row['n_observed']:,}",
                "empty": f"{measured.n_regions - row['n_observed']:,}",
                "coverage": f"{row['coverage']:.1f}",
                "misfit": _DASH if np.isnan(row["misfit"]) else f"{row['misfit']:.2f}",
                "sex": row["sex"] or _DASH,
                "hidden": hidden if len(of_sample) else len(measured.tissues),
                "found": [f"{t} {p:.1%}" for t, p in
                          zip(top.get("tissue", []), top.get("proportion", []), strict=True)],
                "index": i,
            }
        )  # fmt: skip
    return rows


def _marker_rows(measured: Measured) -> list[dict[str, Any]]:
    """Return a row per tissue: what share of its informative regions each sample observes."""
    rows = []
    for t, tissue in enumerate(measured.tissues):
        total = int(measured.n_informative[t])
        cells = [
            {
                "observed": int(measured.observed[i, t]),
                "percent": round(100 * measured.observed[i, t] / max(total, 1)),
                "hidden": not measured.assessable[i, t],
            }
            for i in range(len(measured.table))
        ]
        rows.append({"tissue": tissue, "total": total, "cells": cells})
    return rows


def _tissue_row(row: pd.Series, scale: float) -> dict[str, Any]:
    def place(value: float) -> float:
        return round(100 * min(value / scale, 1), 2)

    shown: dict[str, Any] = {
        "tissue": row["tissue"],
        "call": row["call"],
        "kind": str(row["call"]).replace(" ", "-"),
        "proportion": _DASH if row["call"] == NOT_ASSESSABLE else _percent(row["proportion"]),
        "bar": 0 if np.isnan(row["proportion"]) else place(row["proportion"]),
        "interval": _DASH,
        "probability": _DASH,
        "limit": _DASH,
        "low": None,
        "high": None,
    }
    if "presence_probability" in row and pd.notna(row["presence_probability"]):
        shown["probability"] = f"{row['presence_probability']:.3f}"
    if "interval_low" in row and pd.notna(row["interval_low"]):
        low, high = row["interval_low"], row["interval_high"]
        shown["interval"] = f"{100 * low:.2f} {_DASH} {100 * high:.2f} %"
        shown["low"], shown["high"] = place(low), place(high)
        limit = row["limit_of_detection"]
        shown["limit"] = "none" if limit >= 1 else _percent(limit)
    return shown


def _percent(value: float) -> str:
    return _DASH if np.isnan(value) else f"{100 * value:.2f} %"
