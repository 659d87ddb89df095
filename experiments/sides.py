"""A run under comparison: what it is, and what it predicted of which mixtures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.entities import Run

from experiments.reading import run_artifact, test_digest

STATS = "summary_stats.csv"


@dataclass(frozen=True)
class Side:
    """A run under comparison.

    ``stats`` is its table of `deconv.evaluate.summary_stats`, ``test_set`` name and digest of
    the mixtures that it is of; None if the run has none.
    """

    letter: str
    run: Run
    test_set: tuple[str, str] | None
    stats: pd.DataFrame | None

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.run.info.run_name)


def open_side(letter: str, run: Run, folder: Path) -> Side:
    """Fetch what a run predicted into a new folder below ``folder``, and name it by a letter.

    Raises
    ------
    TrackingError
        If the store of artifacts cannot be reached.
    """
    place = folder / letter
    place.mkdir()
    file = run_artifact(run, STATS, place)
    # "NA" is a name here, not a missing value.
    stats = None if file is None else pd.read_csv(file, keep_default_na=False, na_values=[""])
    return Side(letter, run, test_digest(run), stats)


def stats_arrays(
    stats: pd.DataFrame, like: pd.DataFrame | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return predicted and true fractions and calls, [N, T], in the order of ``like``."""
    like = stats if like is None else like
    cells = stats.set_index(["sample", "tissue"])
    cells = cells.loc[pd.MultiIndex.from_frame(like[["sample", "tissue"]])]
    shape = (like["sample"].nunique(), like["tissue"].nunique())
    predicted, true = (
        cells[f"{name}_proportion"].to_numpy().reshape(shape) for name in ("predicted", "true")
    )
    return predicted, true, (cells["call"] == "detected").to_numpy().reshape(shape)
