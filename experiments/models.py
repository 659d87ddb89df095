"""What samples are analysed with: a model from the registry or a folder, or an atlas alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from deconv.atlas import Atlas
from deconv.baselines import NonNegativeLeastSquares
from deconv.benchmarks.published import UxmNnls
from deconv.bundle import Bundle, bundle_hash, read_bundle
from deconv.checkpoint import load_checkpoint
from deconv.files import file_hash
from deconv.formats.atlases import SUFFIXES, open_atlas
from deconv.formats.uxm_atlas import UxmAtlas
from deconv.predictor import MIN_OVERLAP, Method, NetworkMethod
from deconv.quality import informative_regions
from deconv.reference import Reference
from deconv.regions import UNKNOWN_BUILD
from deconv.trained_range import TrainedRange
from experiments.fetch import fetch_model, is_registered
from experiments.model_cache import fetch_cached


@dataclass(frozen=True)
class Identity:
    """What tells a model from all others: its name and version, and the hash of its files.

    The version of a model that is not from the registry is empty.
    """

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Model:
    """A method with its atlas, and where it is from, in words, for reports.

    ``informative`` says which regions speak for each tissue, [T, R]; ``notes`` what a person
    should know of how it was found, ``trained`` what its training samples look like, if known,
    ``place`` the file or folder that it was read from.
    """

    method: Method
    atlas: Atlas
    informative: Bool[np.ndarray, "T R"]
    identity: Identity
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    trained: TrainedRange | None = None
    place: Path = field(default_factory=Path)


def load_model(source: str) -> Bundle:
    """Load a model by MLflow URI, bundle folder or checkpoint file; nothing is unpickled."""
    return _load(source)[0]


def _load(source: str) -> tuple[Bundle, Identity, Path, str]:
    """Return a model, what it is, where it is, and a note if it is not certainly what is meant."""
    if is_registered(source):
        fetched = fetch_cached(source)
        identity = Identity(fetched.name, fetched.version, fetched.sha256)
        bundle = read_bundle(fetched.folder)
        if not bundle.provenance.get("run_id"):  # trained while its server was away
            known = {**bundle.provenance, "run_id": fetched.run_id or None}
            bundle = replace(bundle, provenance=known)
        return bundle, identity, fetched.folder, fetched.note
    path = fetch_model(source) if ":/" in source else Path(source)
    if path.is_file():
        checkpoint = load_checkpoint(path)
        bundle = Bundle(checkpoint.network, checkpoint.atlas)
        return bundle, Identity(source, "", file_hash(path)), path, ""
    return read_bundle(path), Identity(source, "", bundle_hash(path)), path, ""


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
    bundle, identity, place, note = _load(source)
    method = NetworkMethod(
        bundle.network, bundle.atlas, calibration=bundle.calibration, min_overlap=min_overlap
    )
    provenance = bundle.provenance
    facts = {
        "model": source,
        "model version": identity.version or "not from the registry",
        "model SHA-256": identity.sha256,
        "method": "two-stage network" if bundle.network.config.use_two_stage else "network",
        "MLflow run": provenance.get("run", "unknown"),
        "MLflow run id": provenance.get("run_id") or "unknown",
        "trained on data SHA-256": provenance.get("sha256", {}).get("data", "unknown"),
    }
    if note:
        facts["model version"] += f", as last known: {note}"
    model = _model(method, bundle.atlas, informative_regions(bundle.atlas), facts, identity)
    return replace(model, notes=(note,) if note else (), trained=bundle.trained, place=place)


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
    identity = Identity(source, "", atlas.content_hash)
    informative = informative_regions(atlas, reference.target)
    return replace(_model(method, atlas, informative, facts, identity), place=Path(source))


def _model(
    method: Method,
    atlas: Atlas,
    informative: np.ndarray,
    facts: Mapping[str, str],
    identity: Identity,
) -> Model:
    regions = atlas.regions
    return Model(
        method,
        atlas,
        informative,
        identity,
        {
            **facts,
            "atlas": f"{len(atlas.tissues)} tissues, {len(regions):,} regions of {regions.build}",
            "atlas SHA-256": atlas.content_hash,
            "regions SHA-256": regions.content_hash,
            "made by": f"deconv {metadata.version('deconv')}",
        },
    )
