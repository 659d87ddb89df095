"""What a run is called by in MLflow: tags to filter by, parameters to compare, a description."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from deconv.atlas import Atlas
from deconv.metrics import HEADLINE
from experiments.config import RunConfig
from experiments.metric_names import TITLES, interval_names, show, show_interval

DESCRIPTION = "mlflow.note.content"
_METHODS = {"": "this network", "nnls/": "NNLS", "weighted_nnls/": "coverage-weighted NNLS"}
_PHASES = {"1": {"two_tissues"}, "2": {"several"}, "3": {"cfdna", "titration"}}
_FOLDER_SUFFIX = re.compile(r"-\d{8}-\d{6}-[0-9a-f]{4}$")
# Where a run happens, not what it is: they would show as differences between equal runs.
_NOT_PARAMETERS = ("output.", "data.profile_megabytes", "training.num_workers")


def run_tags(config: RunConfig, name: str, atlas: Atlas, device: torch.device) -> dict[str, str]:
    """Return the tags by which people find and filter runs.

    ``phase`` is that of the curriculum (1, 2, 3, or mixed), ``dataset`` the name of the pure
    samples, ``config`` that of the configuration, ``study`` that of the study, if any.

    Parameters
    ----------
    name
        The run's: name of the configuration, time and some random letters.
    """
    tags = {
        "kind": "training",
        "phase": phase(config),
        "sparse": str(config.model.use_two_stage).lower(),
        "dataset": dataset_name(config),
        "config": _FOLDER_SUFFIX.sub("", name),
        "device": device.type,
        "threads": str(torch.get_num_threads()),
        DESCRIPTION: _subject(config, atlas),
    }
    if config.output.study is not None:
        tags["study"] = config.output.study
    return tags


def run_params(config: RunConfig) -> dict[str, Any]:
    """Return the settings that make a run what it is, by dotted name, without unset ones."""
    return {
        name: value
        for name, value in config.flat().items()
        if value is not None and not name.startswith(_NOT_PARAMETERS)
    }


def phase(config: RunConfig) -> str:
    """Return the phase of the curriculum that a run's mixtures belong to, or ``mixed``."""
    designs = {name for name, weight in config.data.mixtures.designs.items() if weight}
    for number, own in _PHASES.items():
        if designs <= own:
            return number
    return "mixed"


def dataset_name(config: RunConfig) -> str:
    """Return the name of the pure samples: the file or folder, without what it ends in."""
    return "unknown" if config.data.path is None else Path(config.data.path).name.split(".")[0]


def result_tags(config: RunConfig, atlas: Atlas, metrics: Mapping[str, float]) -> dict[str, str]:
    """Return the description of a finished run: what it is, and how good, in Markdown."""
    text = f"{_subject(config, atlas)}\n\n{_headline(metrics)}"
    return {DESCRIPTION: text}


def _subject(config: RunConfig, atlas: Atlas) -> str:
    model = "Two-stage (sparse)" if config.model.use_two_stage else "Single-stage"
    designs = ", ".join(config.data.mixtures.designs).replace("_", " ")
    number = phase(config)
    kind = "mixed phases" if number == "mixed" else f"phase {number}"
    text = (
        f"{model} network, {kind} ({designs}), trained on **{dataset_name(config)}**: "
        f"{len(atlas.tissues)} tissues, {len(atlas.regions):,} regions; "
        f"seed {config.random_seed}."
    )
    source = config.model.pretrained_checkpoint
    return text if source is None else f"{text} Started from `{source}`."


def _headline(metrics: Mapping[str, float]) -> str:
    """Return a Markdown table: the network beside the baselines on unseen donors."""
    sets = {"test": "test/", "val": "best/val/"}
    name = next((s for s in sets if f"{s}/nnls/mae" in metrics and sets[s] + "mae" in metrics), "")
    if not name:
        return ""
    lines = [
        f"| {name} | " + " | ".join(TITLES[m] for m in HEADLINE) + " |",
        "| --- |" + " --- |" * len(HEADLINE),
    ]
    for prefix, title in _METHODS.items():
        where = f"{name}/{prefix}" if prefix else sets[name]
        shown = [show(m, metrics.get(where + m)) for m in HEADLINE]
        lines.append(f"| {title} | " + " | ".join(shown) + " |")
    low, high = (metrics.get(limit) for limit in interval_names("test/mae"))
    if name == "test" and low is not None and high is not None:
        lines.append(f"\nMAE, 95 % interval: {show_interval('mae', (low, high))} %.")
    if "best/epoch" in metrics:
        lines.append(f"\nBest checkpoint: epoch {metrics['best/epoch']:.0f}.")
    return "\n".join(lines)
