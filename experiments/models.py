"""What samples are analysed with: a model from the registry or a folder, or an atlas alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from deconv.atlas import Atlas
from deconv.baselines import NonNegativeLeastSquares
from deconv.benchmarks.published import UxmNnls
from deconv.bundle import Bundle, read_bundle
from deconv.checkpoint import load_checkpoint
from deconv.formats.atlases import SUFFIXES, open_atlas
from deconv.formats.uxm_atlas import UxmAtlas
from deconv.predictor import MIN_OVERLAP, Method, NetworkMethod
from deconv.quality import informative_regions
from deconv.reference import Reference
from deconv.regions import UNKNOWN_BUILD
from experiments.registry import (
    fetch_model,
    name_and_version,
    open_registered,
    registered_version,
)


@dataclass(frozen=True)
class Model:
    """A method with its atlas, and where it is from, in words, for reports.

    ``informative`` says which regions speak for each tissue, [T, R].
    """

    method: Method
    atlas: Atlas
    informative: Bool[np.ndarray, "T R"]
    facts: Mapping[str, str] = field(default_factory=dict)


def load_model(source: str) -> Bundle:
    """Load a model by MLflow URI, bundle folder or checkpoint file; nothing is unpickled."""
    if ":/" in source:
        registered = name_and_version(source)
        if registered is not None:
            return open_registered(*registered)
        return read_bundle(fetch_model(source))
    path = Path(source)
    if path.is_file():
        checkpoint = load_checkpoint(path)
        return Bundle(checkpoint.network, checkpoint.atlas)
    return read_bundle(path)


def open_model(
    source: str, *, build: str = UNKNOWN_BUILD, min_overlap: float = MIN_OVERLAP
) -> Model:
    """Open what samples are to be analysed with.

    Parameters
    ----------
    source
        An MLflow URI, a bundle's folder or a checkpoint; or an atlas' file, which is used
        by weighted least squares, without intervals.
    build
        Genome build of an atlas that does not state it.

    Raises
    ------
    DeconvError
        If there is no such thing, or it is damaged.
    """
    if ":/" not in source and source.lower().endswith(SUFFIXES):
        return _of_atlas(source, open_atlas(Path(source), build=build), min_overlap)
    bundle = load_model(source)
    method = NetworkMethod(
        bundle.network, bundle.atlas, calibration=bundle.calibration, min_overlap=min_overlap
    )
    provenance = bundle.provenance
    facts = {
        "model": source,
        "model version": registered_version(source) or "not from the registry",
        "method": "two-stage network" if bundle.network.config.use_two_stage else "network",
        "MLflow run": provenance.get("run", "unknown"),
        "MLflow run id": provenance.get("run_id", "unknown"),
        "trained on data SHA-256": provenance.get("sha256", {}).get("data", "unknown"),
    }
    return _model(method, bundle.atlas, informative_regions(bundle.atlas), facts)


def _of_atlas(source: str, reference: Reference, min_overlap: float) -> Model:
    atlas = reference.atlas
    method: Method
    if reference.means is not None and reference.regions.feature == "u_fragment":
        means = reference.means
        target = means.target if means.target is not None else np.array([""] * len(atlas.regions))
        method = UxmNnls(UxmAtlas(atlas, target, means.stated), min_overlap=min_overlap)
        name = "NNLS weighted by fragments (UXM)"
    else:
        method = NonNegativeLeastSquares(atlas, weighted=True, min_overlap=min_overlap)
        name = "coverage-weighted NNLS"
    facts = {
        "model": source,
        "model version": "none: an atlas, not a trained model",
        "method": f"{name}: neither intervals nor limits of detection",
        "MLflow run": "none",
    }
    return _model(method, atlas, informative_regions(atlas, reference.target), facts)


def _model(
    method: Method, atlas: Atlas, informative: np.ndarray, facts: Mapping[str, str]
) -> Model:
    regions = atlas.regions
    return Model(
        method,
        atlas,
        informative,
        {
            **facts,
            "atlas": f"{len(atlas.tissues)} tissues, {len(regions):,} regions of {regions.build}",
            "atlas SHA-256": atlas.content_hash,
            "regions SHA-256": regions.content_hash,
            "made by": f"deconv {metadata.version('deconv')}",
        },
    )
