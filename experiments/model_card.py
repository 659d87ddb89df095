"""The model card: what a model was made from, how good it is, and what it is not for.

After Mitchell et al. 2019, Model Cards for Model Reporting, https://arxiv.org/abs/1810.03993
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from deconv.counts import RegionCounts
from deconv.report_tables import per_tissue
from experiments.config import RunConfig
from experiments.data import RunData

_LIMITS = """\
- Research use only. Not for diagnosis or treatment.
- Knows the tissues below and no others; DNA of another tissue is reported as out of the atlas
  where its share is large enough to be told, and else goes to related tissues.
- A tissue counts as present from {present_from:.0%} of the DNA; below that it is not called.
- Tested on simulated mixtures of donors that it was not trained on, at the depths below."""
_METRICS = {
    "mae": "mean absolute error", "presence_balanced_accuracy": "presence, balanced accuracy",
    "presence_f1": "presence, F1", "spurious_mass": "mass given to absent tissues",
    "prediction_ratio": "predicted / true", "interval_coverage": "95 % intervals hold the truth",
    "calibration_error": "calibration error of presence",
}  # fmt: skip

_HEADINGS = {  # short ones: registry pages are narrow
    "n_present": "samples", "mae": "MAE", "presence_precision": "precision",
    "presence_recall": "recall", "presence_f1": "F1", "prediction_ratio": "ratio",
    "spurious_mass": "spurious",
}  # fmt: skip


def model_card(
    name: str, config: RunConfig, data: RunData, metrics: Mapping[str, float], stats: pd.DataFrame
) -> str:
    """Return the card of a run's model, in Markdown."""
    present_from = config.loss.presence_threshold
    tested = data.test if data.test is not None else data.validation
    which = "test" if data.test is not None else "validation"
    regions = data.atlas.regions
    tissues = per_tissue(stats, present_from)
    parts = [
        f"# {name}",
        "Which tissues a DNA sample comes from, and how much of each, from methylation counts.",
        "## Limits\n\n" + _LIMITS.format(present_from=present_from),
        "## Data\n\n"
        f"- {len(regions)} regions, genome build {regions.build}, feature `{regions.feature}`, "
        f"SHA-256 `{regions.content_hash[:16]}`\n"
        f"- {len(data.atlas.tissues)} tissues: {', '.join(data.atlas.tissues)}\n"
        f"- donors: {_donors(data)}\n"
        f"- pure samples: SHA-256 `{data.pure.content_hash[:16]}`",
        f"## Results on {len(tested)} {which} mixtures\n\n" + _overall(metrics),
        "By depth (mean observations of a region):\n\n" + _by_depth(stats, tested),
        "By tissue:\n\n" + _markdown(tissues.rename(columns=_HEADINGS).reset_index()),
    ]
    return "\n\n".join(parts) + "\n"


def donors(data: RunData) -> dict[str, list[str]]:
    """Return the donors of each part of a run's data."""
    parts = {
        "train": data.split.train, "validation": data.split.validation, "test": data.split.test
    }  # fmt: skip
    return {k: sorted(set(v.samples["donor"])) for k, v in parts.items() if v is not None}


def _donors(data: RunData) -> str:
    return ", ".join(f"{len(names)} in {part}" for part, names in donors(data).items())


def _overall(metrics: Mapping[str, float]) -> str:
    rows = {
        words: metrics[f"test/{metric}"] for metric, words in _METRICS.items()
        if f"test/{metric}" in metrics
    }  # fmt: skip
    if not rows:
        return "No donors were held out for a test."
    return _markdown(pd.DataFrame({"metric": rows.keys(), "value": rows.values()}))


def _by_depth(stats: pd.DataFrame, tested: RegionCounts) -> str:
    depth = pd.Series(tested.coverage.mean(axis=1), index=tested.samples.index.astype(str))
    error = (stats["predicted_proportion"] - stats["true_proportion"]).abs()
    of_sample = error.groupby(stats["sample"].astype(str)).mean().reindex(depth.index)
    edges = np.unique(np.quantile(depth, [0, 1 / 3, 2 / 3, 1])).tolist()
    if len(edges) < 2:
        edges.append(edges[0] + 1)
    group = pd.cut(depth, edges, include_lowest=True, precision=1)
    table = of_sample.groupby(group, observed=True).agg(["size", "mean"]).reset_index()
    table.columns = pd.Index(["depth", "samples", "MAE"])
    return _markdown(table)


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(map(str, table.columns)), ["---", *["---:"] * (table.shape[1] - 1)]]
    lines += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
