"""Tables of a full evaluation, from the table of `deconv.evaluate.summary_stats`.

A number that is not defined, such as the recall of a tissue that no sample has, is NaN.
Fractions are 0 to 1. Shape letters: N = samples, T = tissues.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from deconv.metrics import evaluate_predictions

N_RANKED = 10
VISIBLE_FROM = 0.001
"""Fraction from which a tissue is named beside a sample."""
INTERVALS = ("interval_low", "interval_high")
_INTERVAL_BINS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_OF_A_TISSUE = (
    "mae", "presence_precision", "presence_recall", "presence_f1", "prediction_ratio",
)  # fmt: skip
_BY_NUMBER = ("mae", "exact_support", "presence_f1", "spurious_mass")


@dataclass(frozen=True)
class _Wide:
    """The table as arrays, samples and tissues in the order in which they come."""

    samples: pd.Index
    tissues: pd.Index
    true: Float[np.ndarray, "N T"]
    predicted: Float[np.ndarray, "N T"]
    call: Bool[np.ndarray, "N T"]
    presence: Float[np.ndarray, "N T"] | None

    def metrics(self, rows: np.ndarray, columns: np.ndarray, present_from: float) -> pd.Series:
        """Return the metrics of some samples and tissues by name."""
        part = np.ix_(rows, columns)
        presence = None if self.presence is None else self.presence[part]
        found = evaluate_predictions(
            self.predicted[part], self.true[part], call=self.call[part],
            presence=presence, present_from=present_from,
        )  # fmt: skip
        if not (self.true[part] >= present_from).any():
            del found["presence_f1"]  # with nothing to be found, 0 would look like failure
        return pd.Series(found)


def overall(results: Mapping[str, pd.DataFrame], present_from: float) -> pd.DataFrame:
    """Return every metric (rows) of each method (columns), and of saying the same of all.

    ``uniform`` gives each tissue 1/T: what a method is worth must exceed it.
    """
    first = next(iter(results.values()))
    share = 1 / first["tissue"].nunique()
    call = "detected" if share >= present_from else "not detected"
    trivial = first[["sample", "tissue", "true_proportion"]]
    trivial = trivial.assign(predicted_proportion=share, call=call)
    columns = {}
    for name, stats in {**results, "uniform": trivial}.items():
        wide = _wide(stats)
        n_samples, n_tissues = wide.true.shape
        columns[name] = wide.metrics(np.arange(n_samples), np.arange(n_tissues), present_from)
    names = columns[next(iter(results))].index
    return pd.DataFrame(columns).reindex(names).rename_axis("metric")


def per_tissue(stats: pd.DataFrame, present_from: float) -> pd.DataFrame:
    """Return a row per tissue: how often present, errors, calls, mass where it is absent.

    ``bias`` is the mean of predicted - true over all samples; ``spurious_mass`` the mean
    prediction over the samples that do not have the tissue.
    """
    wide = _wide(stats)
    everyone = np.arange(len(wide.samples))
    rows = {}
    for column, tissue in enumerate(wide.tissues):
        only = np.array([column])
        true, predicted = wide.true[:, column], wide.predicted[:, column]
        absent = np.flatnonzero(true < present_from)
        row = wide.metrics(everyone, only, present_from).reindex(_OF_A_TISSUE)
        row["n_present"] = len(true) - len(absent)
        row["bias"] = (predicted - true).mean()
        row["spurious_mass"] = predicted[absent].mean() if absent.size else np.nan
        rows[tissue] = row
    table = pd.DataFrame(rows).T.rename_axis("tissue")
    order = ["n_present", "mae", "bias", *_OF_A_TISSUE[1:], "spurious_mass"]
    return table[order].astype({"n_present": int})


def by_n_tissues(stats: pd.DataFrame, present_from: float) -> pd.DataFrame:
    """Return a row per number of tissues present, over the samples that have so many."""
    wide = _wide(stats)
    n_present = (wide.true >= present_from).sum(axis=1)
    tissues = np.arange(len(wide.tissues))
    rows = {}
    for n in np.unique(n_present):
        samples = np.flatnonzero(n_present == n)
        row = wide.metrics(samples, tissues, present_from).reindex(_BY_NUMBER)
        rows[int(n)] = pd.concat([pd.Series({"n_samples": len(samples)}), row])
    return pd.DataFrame(rows).T.rename_axis("n_present").astype({"n_samples": int})


def ranked_samples(
    stats: pd.DataFrame, coverage: pd.Series, *, worst: bool, n: int = N_RANKED
) -> pd.DataFrame:
    """Return the samples with the largest, or smallest, mean absolute error.

    A row per sample and concerned tissue (true or predicted at 0.1 % or more, the largest
    first), with the sample's ``mae`` and its ``coverage``: observations per region.
    """
    error = (stats["predicted_proportion"] - stats["true_proportion"]).abs()
    mae = error.groupby(stats["sample"], sort=False).mean()
    ranked = mae.sort_values(ascending=not worst, kind="stable").head(n)
    rows = stats[stats["sample"].isin(ranked.index)].copy()
    rows["mae"], rows["coverage"] = rows["sample"].map(ranked), rows["sample"].map(coverage)
    rows["rank"] = rows["sample"].map({name: i + 1 for i, name in enumerate(ranked.index)})
    rows["size"] = rows[["true_proportion", "predicted_proportion"]].max(axis=1)
    rows = rows[rows["size"] >= VISIBLE_FROM]
    rows = rows.sort_values(["rank", "size"], ascending=[True, False], kind="stable")
    columns = ["rank", "sample", "mae", "coverage", "tissue"]
    columns += ["true_proportion", "predicted_proportion", "call"]
    return rows[columns].reset_index(drop=True)


def mass_confusion(stats: pd.DataFrame, present_from: float) -> pd.DataFrame:
    """Return where mass goes that should not: rows the tissue present, columns one absent.

    Each cell is the mean predicted fraction of the absent tissue over the samples that have
    the one and not the other, weighted by the true fraction of the one present; NaN where
    there is no such sample.
    """
    wide = _wide(stats)
    present = wide.true >= present_from
    weight = np.where(present, wide.true, 0)
    total = weight.T @ ~present
    with np.errstate(invalid="ignore"):
        mean = (weight.T @ np.where(present, 0, wide.predicted)) / total
    table = pd.DataFrame(mean, index=wide.tissues, columns=wide.tissues)
    return table.rename_axis("present_tissue")


def reliability(stats: pd.DataFrame, present_from: float) -> pd.DataFrame:
    """Return, for tenths of the presence probability, their number and the share present."""
    probability = stats["presence_probability"]
    present = stats["true_proportion"] >= present_from
    bins = (probability * 10).astype(int).clip(0, 9).rename("bin")
    table = pd.DataFrame(
        {
            "n": present.groupby(bins).size(),
            "mean_probability": probability.groupby(bins).mean(),
            "share_present": present.groupby(bins).mean(),
        }
    )
    table.insert(0, "from", table.index / 10)
    return table.reset_index(drop=True)


def interval_coverage(stats: pd.DataFrame) -> pd.DataFrame:
    """Return how often intervals hold the truth, and how wide they are, by true fraction.

    Bins are closed on the left; that of fraction 0 alone comes first.
    """
    true, (low, high) = stats["true_proportion"], (stats[name] for name in INTERVALS)
    inside = (low <= true) & (true <= high)
    bins = np.where(true == 0, 0, np.searchsorted(_INTERVAL_BINS, true, side="right"))
    bins = np.minimum(bins, len(_INTERVAL_BINS) - 1)
    grouped = pd.DataFrame({"coverage": inside, "width": high - low}).groupby(bins)
    table = grouped.mean()
    table.insert(0, "n", grouped.size())
    edges = [f"{100 * edge:g}" for edge in _INTERVAL_BINS]
    names = ["0 %"] + [f"{a}-{b} %" for a, b in pairwise(edges)]
    return table.set_axis([names[i] for i in table.index], axis=0).rename_axis("true_proportion")


def _wide(stats: pd.DataFrame) -> _Wide:
    cells = stats.set_index(["sample", "tissue"])
    samples, tissues = pd.Index(stats["sample"].unique()), pd.Index(stats["tissue"].unique())

    def array(column: pd.Series) -> np.ndarray:
        return column.unstack().reindex(index=samples, columns=tissues).to_numpy()

    presence = None
    if "presence_probability" in cells:
        presence = array(cells["presence_probability"])
    return _Wide(
        samples,
        tissues,
        array(cells["true_proportion"]),
        array(cells["predicted_proportion"]),
        array(cells["call"] == "detected"),
        presence,
    )
