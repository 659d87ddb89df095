"""The accuracy benchmark as an interactive page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from plotly.subplots import make_subplots

_SHOWN = {
    "mae": "mean absolute error (points)",
    "wrong_calls": "wrong presence calls (%)",
    "spurious_mass": "spurious mass (points)",
}


def accuracy_page(rows: Sequence[dict[str, Any]]) -> str:
    """Return bars per scenario and method, means over seeds, as one self-contained page.

    Whiskers are the widest bootstrap interval of any seed.
    """
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = make_subplots(rows=len(_SHOWN), cols=1, subplot_titles=list(_SHOWN.values()))
    for place, metric in enumerate(_SHOWN, start=1):
        for color, method in enumerate(methods):
            bars = [_bar(rows, scenario, method, metric) for scenario in scenarios]
            middle, low, high = np.array(bars).T
            figure.add_bar(
                x=scenarios,
                y=middle,
                error_y={"array": high - middle, "arrayminus": middle - low},
                name=method,
                legendgroup=method,
                showlegend=place == 1,
                marker_color=f"hsl({360 * color // len(methods)}, 55%, 50%)",
                row=place,
                col=1,
            )
    figure.update_layout(
        title="Accuracy on unseen donors", height=1100, barmode="group", template="plotly_white"
    )
    return str(figure.to_html(include_plotlyjs=True, full_html=True))


def _bar(
    rows: Sequence[dict[str, Any]], scenario: str, method: str, metric: str
) -> tuple[float, float, float]:
    """Return mean, lowest and highest end over seeds in percent; NaN if it was not measured."""
    found = [r for r in rows if r["scenario"] == scenario and r["method"] == method]
    if not found:
        return (np.nan, np.nan, np.nan)
    ends = np.array([r["intervals"][metric] for r in found])
    middle = np.mean([r[metric] for r in found])
    return 100 * float(middle), 100 * float(ends[:, 0].min()), 100 * float(ends[:, 1].max())
