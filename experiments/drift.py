"""Whether the samples that a model is given are still like those that it was trained on.

A quantity of `deconv.trained_range` drifts where more samples lie outside the central 99 % of
the training samples than chance explains if up to `TOLERATED` of them did: 1 % would by
definition, and the few donors behind the figures do not know how all others differ. The chance
(one-sided, binomial) is multiplied by the number of quantities (Bonferroni) and has to be below
`SIGNIFICANT`; fewer than `MIN_SAMPLES` samples never suffice.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table
from scipy.stats import binom

from deconv.trained_range import QUANTITIES, TrainedRange
from experiments.prediction_records import Record

TOLERATED, SIGNIFICANT, MIN_SAMPLES = 0.05, 0.01, 3


@dataclass(frozen=True)
class Drift:
    """One quantity: where its recent values lie beside those of training.

    ``low`` and ``high`` are the central 99 % of training, missing on a side where no value is
    unusual; ``n_low`` and ``n_high`` samples are beyond. ``p`` is adjusted. ``farthest`` are
    samples (the hash of their data if their name is not kept), the most unusual first.
    """

    quantity: str
    meaning: str
    n: int
    median: float
    trained_median: float
    low: float | None
    high: float | None
    n_low: int
    n_high: int
    p: float
    drifts: bool
    farthest: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def find_drift(trained: TrainedRange, figures: pd.DataFrame) -> list[Drift]:
    """Compare samples with those of a model's training.

    Parameters
    ----------
    figures
        A row per sample, columns of `QUANTITIES`; one that is missing is not compared.
    """
    compared = [n for n in QUANTITIES if n in trained.quantiles and n in figures]
    found = []
    for name in compared:
        values = figures[name].dropna()
        low, high = trained.limits(name)
        # As much as rounding may move a value that is the limit itself, such as 0 or 1.
        slack = 1e-9 * max(abs(v) for v in (*trained.quantiles[name], 1.0))
        below, above = values < low - slack, values > high + slack
        n_outside = int(below.sum() + above.sum())
        chance = float(binom.sf(n_outside - 1, len(values), TOLERATED)) if len(values) else 1.0
        p = min(chance * len(compared), 1.0)
        beyond = pd.concat([low - values, values - high], axis=1).max(axis=1)[below | above]
        found.append(
            Drift(
                quantity=name,
                meaning=QUANTITIES[name][0],
                n=len(values),
                median=float(values.median()) if len(values) else np.nan,
                trained_median=trained.median(name),
                low=low if np.isfinite(low) else None,
                high=high if np.isfinite(high) else None,
                n_low=int(below.sum()),
                n_high=int(above.sum()),
                p=p,
                drifts=p < SIGNIFICANT and len(values) >= MIN_SAMPLES,
                farthest=tuple(map(str, beyond.sort_values(ascending=False).index[:5])),
            )
        )
    return found


def recent_figures(records: Sequence[Record]) -> pd.DataFrame:
    """Return the figures of records, the data of each sample once: as predicted last."""
    latest = {record.content: record for record in records}
    index = pd.Index([r.sample or r.content[:16] for r in latest.values()], name="sample")
    names = [n for n in QUANTITIES if any(n in r.figures for r in latest.values())]
    rows = [[r.figures.get(name, np.nan) for name in names] for r in latest.values()]
    return pd.DataFrame(rows, index=index, columns=names, dtype=float)


def drift_table(found: Sequence[Drift]) -> Table:
    """Return what was compared, a row per quantity."""
    table = Table(title="recent samples beside those of training", title_justify="left")
    table.add_column("quantity")
    for heading in ("median", "of training", "central 99 %", "outside", "adjusted p", ""):
        table.add_column(heading, justify="right")
    for d in found:
        ends = ["" if end is None else f"{end:.3g}" for end in (d.low, d.high)]
        span = (
            f"{ends[0]} to {ends[1]}"
            if all(ends)
            else "".join(
                f"{word} {end}" for word, end in zip(("from", "up to"), ends, strict=True) if end
            )
        )
        table.add_row(
            d.meaning, f"{d.median:.3g}", f"{d.trained_median:.3g}", span,
            f"{d.n_low + d.n_high} of {d.n}", f"{d.p:.2g}",
            "[red]drift[/]" if d.drifts else "[green]as trained[/]",
        )  # fmt: skip
    return table
