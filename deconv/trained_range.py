"""What the samples that a model was made for look like in figures, to know others by.

They are taken of the validation mixtures: made as the training mixtures were, of donors that
are not trained on, as patients are not.

Shape letters: N = samples, Q = quantities.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from deconv.atlas import Atlas
from deconv.counts import RegionCounts
from deconv.errors import CheckpointError
from deconv.inference import BATCH_SIZE
from deconv.predictor import Deconvolution, Method
from deconv.quality import Measured, informative_regions, measure

Side = Literal["low", "high", "both"]
QUANTITIES: Mapping[str, tuple[str, Side]] = {
    "observed": ("share of the regions observed", "low"),
    "coverage": ("mean coverage of a region", "both"),
    "misfit": ("misfit to the best mixture of the atlas", "high"),
    "shift": ("methylation beyond that of the best mixture", "both"),
    "misfit_score": ("misfit beyond what the depth makes typical", "high"),
    "out_of_atlas": ("share of the DNA of no tissue of the atlas", "high"),
    "n_detected": ("tissues detected", "both"),
}
"""What is compared, in words, and on which side of the range a sample is unusual."""
LEVELS = (0.0, 0.005, 0.025, 0.25, 0.5, 0.75, 0.975, 0.995, 1.0)
"""Quantiles that are kept; between the second and the last but one lie the central 99 %."""
_LOW, _MIDDLE, _HIGH = 1, 4, 7


@dataclass(frozen=True)
class TrainedRange:
    """Quantiles, at `LEVELS`, of each of the `QUANTITIES` that ``n`` samples have."""

    n: int
    quantiles: dict[str, list[float]]

    def limits(self, name: str) -> tuple[float, float]:
        """Return the ends of a quantity's central 99 %; infinite on a side that is not unusual."""
        values, side = self.quantiles[name], QUANTITIES[name][1]
        low = -np.inf if side == "high" else values[_LOW]
        return low, np.inf if side == "low" else values[_HIGH]

    def median(self, name: str) -> float:
        """Return a quantity's median."""
        return self.quantiles[name][_MIDDLE]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "TrainedRange":
        """Restore what `to_dict` returned; what a later version added is left out.

        Raises
        ------
        CheckpointError
            If a part is missing or of another size.
        """
        try:
            quantiles = {k: [float(v) for v in saved["quantiles"][k]] for k in QUANTITIES
                         if k in saved["quantiles"]}  # fmt: skip
            found = cls(int(saved["n"]), quantiles)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError("no figures of the training samples", got=error) from error
        if any(len(values) != len(LEVELS) for values in quantiles.values()):
            raise CheckpointError("figures of the training samples at other quantiles")
        return found


def sample_figures(measured: Measured, result: Deconvolution) -> pd.DataFrame:
    """Return those of the `QUANTITIES` that a method has of samples, a row each."""
    table, sure = measured.table, result.certainty
    figures = {
        "observed": table["n_observed"] / measured.n_regions,
        "coverage": table["coverage"],
        "misfit": table["misfit"],
        "shift": table["shift"],
        "n_detected": result.call.sum(axis=1),
    }
    if sure is not None:
        figures |= {"misfit_score": sure.misfit_score, "out_of_atlas": sure.out_of_atlas}
    names = [name for name in QUANTITIES if name in figures]
    return pd.DataFrame({n: np.asarray(figures[n], float) for n in names}, index=table.index)


def trained_range(method: Method, atlas: Atlas, samples: RegionCounts) -> TrainedRange:
    """Measure samples like those that a model was trained on, at the atlas' regions."""
    informative = informative_regions(atlas)
    parts = []
    for first in range(0, len(samples), BATCH_SIZE):
        part = samples.take(range(first, min(first + BATCH_SIZE, len(samples))))
        parts.append(sample_figures(measure(atlas, part, informative), method.predict(part)))
    return range_of(pd.concat(parts))


def range_of(figures: pd.DataFrame) -> TrainedRange:
    """Return the range of `sample_figures`; a quantity with a gap has none."""
    whole = [name for name in QUANTITIES if name in figures and np.isfinite(figures[name]).all()]
    values = {n: np.quantile(figures[n].to_numpy(), LEVELS).tolist() for n in whole}
    return TrainedRange(len(figures), values)
