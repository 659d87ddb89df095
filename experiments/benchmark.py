"""`deconv benchmark speed`: the library's figures, and the share of a run that tracking takes."""

import json
import os
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import torch

from deconv.benchmarks.speed import measure
from deconv.files import write_text
from deconv.precision import native_precisions
from deconv.simulate import simulate_atlas
from experiments.launch import train_and_report

N_EPOCHS = 10  # of the run in which tracking is timed: a third of a usual one


def benchmark_speed(
    path: Path, *, sizes: Sequence[int], batch_size: int, n_epochs: int = N_EPOCHS
) -> list[dict[str, Any]]:
    """Measure each size on the CPU and, where there is one, on the GPU; write them as JSON."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    results = []
    for device, n_regions in product(devices, sizes):
        for precision in native_precisions(torch.device(device)):
            result = measure(n_regions, batch_size, device, precision)
            result["tracking_share"] = tracking_share(
                n_regions, batch_size, device, precision, n_epochs
            )
            results.append(result)
    write_text(path, json.dumps({"results": results}, indent=1))
    return results


def tracking_share(
    n_regions: int, batch_size: int, device: str, precision: str, n_epochs: int
) -> float:
    """Train ``phase2_sparse`` in a store of its own; return the time spent on MLflow over all.

    The time counts what the run waits for, registering the model included; creating the
    tables of a new store, once in its life, does not.
    """
    before, experiment = mlflow.get_tracking_uri(), os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    with TemporaryDirectory() as name:
        folder = Path(name)
        simulate_atlas(folder / "a.h5ad", n_regions=n_regions, n_donors=4, depth=240, seed=0)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        # MLflow's default place of artifacts is ./mlruns, which would keep the models.
        mlflow.create_experiment("benchmark", artifact_location=(folder / "files").as_uri())
        settings = {
            "output.directory": folder / "runs",
            "output.experiment": "benchmark",
            "training.batch_size": batch_size,
            "training.num_epochs": n_epochs,
            "training.precision": precision,
        }
        try:
            begin = time.perf_counter()
            result = train_and_report(
                "phase2_sparse",
                data=str(folder / "a.h5ad"),
                overrides=[f"{key}={value}" for key, value in settings.items()],
                device=device,
            )
            return result.tracking_seconds / (time.perf_counter() - begin)
        finally:
            mlflow.set_tracking_uri(before)
            if experiment is not None:
                os.environ["MLFLOW_EXPERIMENT_ID"] = experiment
