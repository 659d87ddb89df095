"""What differs between runs: configuration, metrics, tissues, and how certain that is.

The first run is the reference. Runs tested on the same mixtures are compared sample by sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from deconv.benchmarks.bootstrap import BOOTSTRAPPED, Difference, bootstrap_intervals
from deconv.errors import ConfigError
from deconv.metrics import PRESENT_FROM
from experiments.metric_names import base_name
from experiments.names import BUNDLE_HASH
from experiments.pairing import pair_sides
from experiments.reading import find_run
from experiments.sides import Side, open_side, stats_arrays
from experiments.store import open_store, tracking_errors

MAX_RUNS = 12
CURVES = (
    "loss", "mae", "presence_accuracy", "presence_balanced_accuracy", "presence_f1",
    "spurious_mass", "sparsity_loss", "presence_loss",
)  # fmt: skip
_PROVENANCE = (
    "config", "dataset", "study", "phase", "git.commit", "git.dirty", "host", "device", "threads",
    "precision",
)  # fmt: skip
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; tables have a column per run, named by its letter.

    Attributes
    ----------
    differing
        Settings, data and code that are not the same in all runs.
    metrics
        Of the test and of the best checkpoint, NaN where a run lacks one.
    intervals
        Of a run (letter) and metric: the 95 % interval over samples.
    tissues
        Mean absolute error of each tissue.
    pairs
        Of a run (letter): its metrics less those of the first run, on the same samples; with
        p-values adjusted for the number of runs (Holm).
    refused
        Of a run (letter): why it cannot be compared with the first sample by sample.
    """

    sides: list[Side]
    differing: pd.DataFrame
    metrics: pd.DataFrame
    intervals: dict[str, dict[str, tuple[float, float]]]
    tissues: pd.DataFrame
    pairs: dict[str, dict[str, Difference]]
    refused: dict[str, str]


def compare_runs(names: Sequence[str]) -> Comparison:
    """Compare runs given by folder, name or MLflow id.

    Raises
    ------
    DeconvError
        If there are fewer than two or too many, one is named twice, or cannot be read.
    """
    if not 2 <= len(names) <= MAX_RUNS:
        raise ConfigError(
            "cannot be compared", got=f"{len(names)} runs", expected=f"2 to {MAX_RUNS}"
        )
    runs = [find_run(name) for name in names]
    for (i, a), (j, b) in combinations(enumerate(runs), 2):
        if a.info.run_id == b.info.run_id:
            raise ConfigError("the same run twice", got=f"{names[i]}, {names[j]}")
    with TemporaryDirectory() as folder:
        sides = [open_side(chr(ord("A") + i), run, Path(folder)) for i, run in enumerate(runs)]
    pairs, refused = pair_sides(sides)
    return Comparison(
        sides=sides,
        differing=_differing(sides),
        metrics=_metrics(sides),
        intervals={side.letter: _intervals(side) for side in sides},
        tissues=pd.DataFrame(
            {s.letter: _tissue_error(s.stats) for s in sides if s.stats is not None}
        ).rename_axis("tissue"),
        pairs=pairs,
        refused=refused,
    )


def read_curves(sides: Sequence[Side]) -> dict[str, dict[str, Curve]]:
    """Return the curves of `CURVES` in training and validation, of each run's letter.

    Raises
    ------
    TrackingError
        If the store cannot be reached.
    """
    client, curves = open_store(), {}
    for side in sides:
        names = [f"{part}/{name}" for name in CURVES for part in ("train", "val")]
        with tracking_errors("cannot read the curves of the run"):
            curves[side.letter] = {
                name: sorted(
                    (point.step, point.value)
                    for point in client.get_metric_history(side.run.info.run_id, name)
                )
                for name in names
                if name in side.run.data.metrics
            }
    return curves


def _differing(sides: Sequence[Side]) -> pd.DataFrame:
    groups: list[dict[str, dict[str, str]]] = [{}, {}, {}]
    for side in sides:
        data, inputs = side.run.data, side.run.inputs
        groups[0][side.letter] = {k: v for k, v in data.params.items() if k != BUNDLE_HASH}
        groups[1][side.letter] = {
            f"{entry.dataset.name} data": str(entry.dataset.digest)
            for entry in (inputs.dataset_inputs if inputs is not None else [])
        }
        groups[2][side.letter] = {
            name: value
            for name, value in data.tags.items()
            if name in _PROVENANCE or name.startswith("version.")
        }
    rows = {}
    for group in groups:
        for name in sorted({name for values in group.values() for name in values}):
            row = [group[side.letter].get(name) for side in sides]
            if len(set(row)) > 1:
                rows[name] = row
    table = pd.DataFrame(rows, index=[side.letter for side in sides], dtype=object).T
    return table.rename_axis("setting")


def _metrics(sides: Sequence[Side]) -> pd.DataFrame:
    columns = {}
    for side in sides:
        found = side.run.data.metrics
        kept = {k: v for k, v in found.items() if k.startswith("best/") or _is_of_test(k)}
        if "test/presence_accuracy" in kept:
            kept["test/wrong_calls"] = 1 - kept["test/presence_accuracy"]
        columns[side.letter] = kept
    table = pd.DataFrame(columns, dtype=float)
    order = sorted(table.index, key=lambda m: (not m.startswith("test/"), _place(m), m))
    return table.loc[order].rename_axis("metric")


def _is_of_test(metric: str) -> bool:
    """Whether a metric is of the model on the test, not of a baseline nor a limit."""
    return metric.startswith("test/") and metric.count("/") == 1


def _place(metric: str) -> int:
    base = base_name(metric)
    return BOOTSTRAPPED.index(base) if base in BOOTSTRAPPED else len(BOOTSTRAPPED)


def _intervals(side: Side) -> dict[str, tuple[float, float]]:
    threshold = float(side.run.data.params.get("loss.presence_threshold", PRESENT_FROM))
    if side.stats is None or side.test_set is None or threshold != PRESENT_FROM:
        return {}  # its metrics count as present what these would not
    predicted, true, call = stats_arrays(side.stats)
    prefix = "test" if side.test_set[0] == "test" else "best/val"
    found = bootstrap_intervals(predicted, true, call, seed=0)
    return {f"{prefix}/{name}": interval for name, interval in found.items()}


def _tissue_error(stats: pd.DataFrame) -> pd.Series:
    error = (stats["predicted_proportion"] - stats["true_proportion"]).abs()
    return error.groupby(stats["tissue"]).mean()
