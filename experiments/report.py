"""What a full evaluation measures: a model beside the baselines, sample by sample.

`experiments.report_page` makes a page of it.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from deconv.baselines import run_baselines
from deconv.checkpoint import load_checkpoint
from deconv.counts import Samples
from deconv.errors import ConfigError, InputError, MismatchError
from deconv.evaluate import summary_stats
from deconv.files import require_file
from deconv.formats import open_counts
from deconv.inference import BATCH_SIZE, calibrate
from deconv.metrics import PRESENT_FROM
from deconv.predictor import Method, NetworkMethod
from experiments.data import load_run_data
from experiments.fetch import registered_version
from experiments.launch import find_run
from experiments.models import load_model
from experiments.run import BEST
from experiments.sent import known_run_ids

MODEL = "model"


@dataclass(frozen=True)
class Evaluation:
    """A model and the baselines on samples of known proportions.

    ``results`` has the table of `deconv.evaluate.summary_stats` of each method, ``coverage``
    each sample's observations per region, ``facts`` what was evaluated, in words.
    """

    title: str
    results: dict[str, pd.DataFrame]
    coverage: pd.Series
    facts: dict[str, str]
    present_from: float


def evaluate_run_folder(run: str, device: torch.device) -> Evaluation:
    """Evaluate the best checkpoint of a run on the mixtures of its held-out donors.

    Raises
    ------
    DeconvError
        If there is no such run, it has no checkpoint, or its data are gone or changed.
    """
    folder, config = find_run(run, None)
    if not (folder.path / BEST).exists():
        raise ConfigError("the run has no checkpoint yet", where=folder.path, expected=BEST)
    best = load_checkpoint(folder.path / BEST, device=device)
    require_file(folder.path / "run.json")
    begun = json.loads((folder.path / "run.json").read_text())
    data = load_run_data(config, device)
    if begun["data"] != data.pure.content_hash:
        raise MismatchError(
            "the data changed since the run began", where=config.data.path,
            got=data.pure.content_hash[:12], expected=begun["data"][:12],
        )  # fmt: skip
    mixtures, kind = data.test, "test"
    if mixtures is None:
        mixtures, kind = data.validation, "validation"
    facts = {
        "run": folder.path.name,
        "MLflow run id": next(iter(known_run_ids(folder.path)), "not sent yet"),
        "checkpoint": f"{BEST}, epoch {best.epoch}",
        "pure samples": str(config.data.path),
        "data SHA-256": data.pure.content_hash,
        "evaluated on": f"{len(mixtures):,} {kind} mixtures of donors not trained on",
    }
    calibration = calibrate(best.network, data.validation, device=device)
    method = NetworkMethod(best.network, best.atlas, calibration=calibration, device=device)
    present_from = config.loss.presence_threshold
    return _evaluate(folder.path.name, method, mixtures, facts, "the mixtures", present_from)


def evaluate_model(source: str, data: Path, device: torch.device) -> Evaluation:
    """Evaluate a model (URI, bundle's folder or checkpoint) on samples of known proportions.

    Raises
    ------
    DeconvError
        If either cannot be read, the samples' proportions are not known or of tissues that
        the model does not know, or the regions do not match.
    """
    bundle = load_model(source)
    samples = open_counts(data)
    _check_proportions(samples, bundle.atlas.tissues, data)
    hashes = bundle.provenance.get("sha256", {})
    facts = {
        "model": source,
        "model version": registered_version(source) or "not from the registry",
        "MLflow run id": bundle.provenance.get("run_id") or "unknown",
        "trained on data SHA-256": hashes.get("data", "unknown"),
        "samples": str(data),
        "data SHA-256": samples.content_hash,
        "evaluated on": f"{len(samples):,} samples of known proportions",
    }
    method = NetworkMethod(
        bundle.network, bundle.atlas, calibration=bundle.calibration, device=device
    )
    return _evaluate(source, method, samples, facts, data, PRESENT_FROM)


def _evaluate(
    title: str, method: NetworkMethod, samples: Samples, facts: dict[str, str], where: object,
    present_from: float,
) -> Evaluation:  # fmt: skip
    methods: dict[str, Method] = {MODEL: method, **run_baselines(method.atlas)}
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in methods}
    coverage = []
    regions, overlap = method.atlas.regions, method.min_overlap
    for first in range(0, len(samples), BATCH_SIZE):
        part = samples.take(range(first, min(first + BATCH_SIZE, len(samples)))).load()
        part = part.at_regions(regions, where=where, min_overlap=overlap)
        for name, candidate in methods.items():
            tables[name].append(summary_stats(candidate.predict(part), part))
        coverage.append(pd.Series(part.coverage.mean(axis=1), part.samples.index))
    facts |= {
        "atlas": f"{len(method.atlas.tissues)} tissues, {len(regions):,} regions",
        "atlas SHA-256": method.atlas.content_hash,
        "present from": f"{100 * present_from:g} % of the DNA",
        "made by": f"deconv {metadata.version('deconv')}",
        "date": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    }
    results = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    return Evaluation(title, results, pd.concat(coverage), facts, present_from)


def _check_proportions(samples: Samples, tissues: tuple[str, ...], where: Path) -> None:
    truth = samples.proportions
    if truth is None:
        raise InputError(
            "the true proportions of the samples are not known", where=where,
            expected="an .h5ad with proportions in obsm",
        )  # fmt: skip
    values = truth.to_numpy(dtype=float)
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(
            "a true proportion is not a fraction",
            where=f"{where}: sample {truth.index[row]}, {truth.columns[column]}",
            got=values[row, column], expected="0 to 1",
        )  # fmt: skip
    strange = set(truth.columns[np.flatnonzero((values > 0).any(axis=0))]) - set(tissues)
    if strange:
        raise MismatchError(
            "the samples have tissues that the model does not know", where=where,
            got=", ".join(sorted(map(str, strange))), expected=", ".join(tissues),
        )  # fmt: skip
