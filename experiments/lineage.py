"""Where a run comes from: data, code, environment, configuration, parent; told at its start."""

import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deconv.counts import Samples
from deconv.files import write_text
from experiments.config import RunConfig
from experiments.data import RunData
from experiments.labels import run_params, run_tags
from experiments.provenance import code_diff, code_tags, environment, machine_tags
from experiments.run_datasets import dataset_data
from experiments.spool import FORMAT_VERSION

ENVIRONMENT, DIFF = "environment.txt", "code.diff"
PARENT_VARIABLE = "MLFLOW_PARENT_RUN_ID"
_PARENT_TAG = "mlflow.parentRunId"


def opening_lines(
    folder: Path, config: RunConfig, data: RunData, dtype: torch.dtype
) -> dict[str, dict[str, Any]]:
    """Return the lines that open a run's record, by kind.

    ``MLFLOW_EXPERIMENT_NAME``, ``MLFLOW_EXPERIMENT_ID`` and ``MLFLOW_PARENT_RUN_ID`` take
    precedence over the configuration.
    """
    tags = {
        **code_tags(),
        **machine_tags(),
        **run_tags(config, folder.name, data.atlas, data.train.device),
        "designs": ",".join(config.data.mixtures.designs),
        "data.sha256": data.pure.content_hash,
        "atlas.sha256": data.atlas.content_hash,
        "precision": str(dtype).removeprefix("torch."),
        "run_folder": str(folder.resolve()),
    }
    parent = os.environ.get(PARENT_VARIABLE) or config.output.parent_run
    if parent:
        tags[_PARENT_TAG] = parent
    sets = {"train": data.split.train, "validation": data.validation, "test": data.test}
    source = str(config.data.path)
    return {
        "run": run_line(folder.name, config.output.experiment, tags),
        "params": {"params": {k: str(v) for k, v in run_params(config).items()}},
        "datasets": {
            "datasets": [_dataset(k, v, source=source) for k, v in sets.items() if v is not None]
        },
    }


def run_line(name: str, experiment: str, tags: dict[str, str]) -> dict[str, Any]:
    """Return the first line of a record."""
    return {
        "version": FORMAT_VERSION,
        "spool_id": uuid.uuid4().hex,
        "name": name,
        "experiment": os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment,
        "experiment_id": os.environ.get("MLFLOW_EXPERIMENT_ID"),
        "tags": tags,
    }


def write_lineage(folder: Path) -> list[str]:
    """Write what repeats the code and environment of a run; return the files' names.

    A run that goes on keeps what it began with.
    """
    if not (folder / ENVIRONMENT).exists():
        diff = code_diff()
        if diff:
            write_text(folder / DIFF, diff)
        write_text(folder / ENVIRONMENT, environment())
    return [name for name in ("config.yaml", ENVIRONMENT, DIFF) if (folder / name).exists()]


def _dataset(name: str, counts: Samples, *, source: str) -> dict[str, str]:
    profile = {
        "samples": len(counts),
        "regions": len(counts.regions),
        "build": counts.regions.build,
        "mean_coverage": round(float(np.mean([c.mean() for _, c in counts.rows()])), 2),
        "sha256": counts.content_hash,
    }
    digest = counts.content_hash[:16]
    return dataset_data(name, digest, source=source, profile=profile, context=name)
