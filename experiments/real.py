"""Real data as a scenario of the accuracy benchmark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deconv.atlas import Atlas
from deconv.baselines import run_baselines
from deconv.benchmarks.metdecode import metdecode_rows
from deconv.benchmarks.real import meth_atlas_scores, uxm_scores
from deconv.bundle import read_bundle
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.predictor import Method, NetworkMethod
from experiments.launch import train_and_report


def real_rows(data: Path, overrides: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Measure methods on the data sets of a folder; ``overrides`` are those of the training.

    The network of the MetDecode dilutions is trained on its reference replicates; published
    means have no donors to train on, so there it is as it starts from the atlas.
    """
    rows: list[dict[str, Any]] = []
    if (data / "metdecode").is_dir():
        run = train_and_report("metdecode", data=str(data / "metdecode"), overrides=overrides)
        bundle = read_bundle(run.folder / "bundle")
        network = NetworkMethod(bundle.network, bundle.atlas, calibration=bundle.calibration)
        rows += metdecode_rows(data, lambda atlas: {"network": network, **run_baselines(atlas)})
    if (data / "uxm").is_dir():
        rows += uxm_scores(data, _untrained)
    if (data / "meth_atlas").is_dir():
        rows += meth_atlas_scores(data, _untrained)
    return rows


def _untrained(atlas: Atlas) -> Mapping[str, Method]:
    network = TwoStageNetwork(ModelConfig(), atlas, read_effect=1.0)
    return {"network at its start": NetworkMethod(network, atlas), **run_baselines(atlas)}
