"""The evidence for a promotion: what a model answers on samples whose truth is known.

By default these are the test mixtures that its run was evaluated on, as the run recorded its
answers. With a benchmark file, both models answer it anew.

Shape letters: N = samples, T = tissues.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from mlflow.entities import Run

from deconv.benchmarks.bootstrap import Difference, paired_differences
from deconv.bundle import Bundle
from deconv.counts import RegionCounts
from deconv.errors import MismatchError
from deconv.evaluate import score, true_proportions
from deconv.files import file_hash
from deconv.predictor import NetworkMethod
from deconv.stored import read_h5ad
from experiments.reading import run_artifact, test_digest
from experiments.sides import STATS, stats_arrays

DONORS = "tested_donors"
"""Column of a benchmark file: the donors that all its samples were mixed from."""


@dataclass(frozen=True)
class Examined:
    """What a model answered.

    Attributes
    ----------
    samples
        Digest of the samples: only those of the same digest can be compared.
    metrics
        Of the model on them, named ``test/...``.
    donors
        Of the samples; None if not known.
    """

    samples: str
    tissues: tuple[str, ...]
    predicted: Float[np.ndarray, "N T"]
    true: Float[np.ndarray, "N T"]
    call: Bool[np.ndarray, "N T"]
    metrics: Mapping[str, float]
    donors: list[str] | None


def recorded(run: Run, bundle: Bundle) -> Examined:
    """Return what a run recorded of its test.

    Raises
    ------
    MismatchError
        If it has no test, or the record is not what its metrics were computed from.
    """
    found = test_digest(run)
    with TemporaryDirectory() as folder:
        file = run_artifact(run, STATS, Path(folder))
        if found is None or found[0] != "test" or file is None:
            raise MismatchError(
                "the run was not tested on donors held out", where=run.info.run_id,
                expected=f"data.test_donors above 0, and its {STATS}",
            )  # fmt: skip
        answers = file_hash(file)
        stats = pd.read_csv(file, keep_default_na=False, na_values=[""])
    predicted, true, call = stats_arrays(stats)
    stated = bundle.provenance.get("metrics", run.data.metrics)  # the run's can be logged anew
    metrics = {k: v for k, v in stated.items() if k.startswith("test/")}
    mae = float(np.abs(predicted - true).mean())
    own = {"answers": answers, "tested_on": found[1]}  # models of earlier versions state neither
    is_own = all(bundle.provenance.get(name, value) == value for name, value in own.items())
    if not (is_own and np.isclose(mae, metrics.get("test/mae", np.nan), rtol=1e-3)):
        raise MismatchError(
            f"{STATS} is not of the model whose metrics were logged", where=run.info.run_id,
            got=f"mae {mae:.6f}, {answers[:12]} of {found[1]}",
            expected=f"what the model states: mae {metrics.get('test/mae', np.nan):.6f}, or "
            "--benchmark FILE",
        )  # fmt: skip
    tissues = tuple(stats["tissue"].drop_duplicates())
    donors = bundle.provenance.get("donors", {}).get("test")
    return Examined(found[1], tissues, predicted, true, call, metrics, donors)


def examine(bundle: Bundle, benchmark: RegionCounts) -> Examined:
    """Let a model answer a benchmark.

    Raises
    ------
    MismatchError
        If the benchmark's regions are not the model's, or it has no true proportions.
    """
    if benchmark.proportions is None:
        raise MismatchError(
            "the true proportions of the samples are not known", where="the benchmark"
        )
    method = NetworkMethod(bundle.network, bundle.atlas, calibration=bundle.calibration)
    result = method.predict(benchmark)
    metrics = {f"test/{name}": value for name, value in score(result, benchmark).items()}
    donors = None
    if DONORS in benchmark.samples:
        donors = sorted(set(str(benchmark.samples[DONORS].iloc[0]).split(";")))
    return Examined(
        benchmark.content_hash[:16], result.tissues, result.proportions,
        true_proportions(result, benchmark), result.call, metrics, donors,
    )  # fmt: skip


def read_benchmark(path: Path) -> RegionCounts:
    """Read a benchmark file, as `deconv freeze` writes it."""
    return read_h5ad(path)


def against(challenger: Examined, champion: Examined) -> tuple[Difference, dict[str, float]]:
    """Return the difference of the mean absolute error, and how much more each tissue has.

    Raises
    ------
    MismatchError
        If the two were examined on other samples, or know other tissues.
    """
    if challenger.samples != champion.samples:
        raise MismatchError(
            "production was tested on other mixtures", got=challenger.samples,
            expected=f"{champion.samples}: the same data, seed and designs, or --benchmark FILE",
        )  # fmt: skip
    if set(challenger.tissues) != set(champion.tissues):
        odd = sorted(set(challenger.tissues) ^ set(champion.tissues))
        raise MismatchError("production knows other tissues", got=", ".join(odd[:5]))
    order = [champion.tissues.index(tissue) for tissue in challenger.tissues]
    theirs, their_call = champion.predicted[:, order], champion.call[:, order]
    differences = paired_differences(
        (challenger.predicted, challenger.call), (theirs, their_call), challenger.true, seed=0
    )
    loss = np.abs(challenger.predicted - challenger.true) - np.abs(theirs - challenger.true)
    losses = dict(zip(challenger.tissues, loss.mean(axis=0).tolist(), strict=True))
    return differences["mae"], losses
