"""What was measured of samples and what was found, as tables of a terminal and as JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.markup import escape
from rich.table import Table

from deconv.findings import Finding
from deconv.quality import Measured
from deconv.reported import NOT_ASSESSABLE


def quality_table(measured: Measured, calls: pd.DataFrame) -> Table:
    """Return a row per sample with what was measured of it; ``calls`` as of `deconv predict`."""
    table = Table(title=f"quality at {measured.n_regions:,} regions", title_justify="left")
    table.add_column("sample", overflow="fold")
    for heading in ("observed", "empty", "coverage", "misfit", "not assessable"):
        table.add_column(heading, justify="right")
    hidden = {}
    if len(calls):
        hidden = (calls["call"] == NOT_ASSESSABLE).groupby(calls["sample"]).sum().to_dict()
    for name, row in measured.table.iterrows():
        n_empty = measured.n_regions - row["n_observed"]
        table.add_row(
            escape(str(name)), f"{row['n_observed']:,}", f"{n_empty:,}", f"{row['coverage']:.1f}",
            f"{row['misfit']:.2f}", str(hidden.get(name, len(measured.tissues))),
        )  # fmt: skip
    return table


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return what was found, the worst first."""
    table = Table(title="findings", title_justify="left")
    for column in ("severity", "sample", "check"):
        table.add_column(column, overflow="fold")
    table.add_column("reason", overflow="fold", ratio=1)
    style = {"error": "red", "warning": "yellow", "note": "default"}
    for finding in findings:
        severity = f"[{style[finding.severity]}]{finding.severity}[/]"
        named = (finding.sample, finding.check, finding.reason)
        table.add_row(severity, *map(escape, named))
    return table


def quality_json(
    measured: Measured | None, findings: Sequence[Finding], notes: Sequence[str]
) -> dict[str, Any]:
    """Return findings, what was measured of samples, and notes of files, without NaN."""
    samples: dict[str, Any] = {}
    if measured is not None:
        for i, (name, row) in enumerate(measured.table.iterrows()):
            markers = {
                tissue: {
                    "informative": measured.n_informative[t],
                    "observed": measured.observed[i, t],
                    "call": "assessable" if measured.assessable[i, t] else NOT_ASSESSABLE,
                }
                for t, tissue in enumerate(measured.tissues)
            }
            n_empty = measured.n_regions - row["n_observed"]
            samples[str(name)] = {**row.to_dict(), "n_empty": n_empty, "markers": markers}
            if measured.alike is not None:
                samples[str(name)]["relation"] = measured.alike.relation[i]
    found: dict[str, Any] = {
        "findings": [finding.to_dict() for finding in findings],
        "quality": plain(samples),
        "files": list(notes),
    }
    if measured is not None and measured.alike is not None:
        n_seen = measured.alike.n_seen
        found["regions"] = {
            "total": measured.n_regions,
            "observed in no sample": int((n_seen == 0).sum()),
            "observed in all samples": int((n_seen == len(measured.table)).sum()),
        }
    return found


def plain(value: Any) -> Any:
    """Return plain Python for JSON; what is not a number is None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
