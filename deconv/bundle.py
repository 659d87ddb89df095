"""The model as shipped: a folder with everything prediction needs, and nothing to execute.

Format version 3: ``manifest.json`` (settings, tissues, calibration, provenance, the SHA-256 of
each other file, and since they are kept, figures of the training samples),
``weights.safetensors``, ``atlas.safetensors`` (mean, rho, profile, n_donors), ``regions.tsv``
(chrom, start, end), ``MODEL_CARD.md`` (for people). Version 2 had no card. Reading compares all
hashes first, and refuses a folder with anything else in it, see `deconv.manifest`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor

from deconv.atlas import Atlas
from deconv.calibrate import Calibration
from deconv.errors import CheckpointError, DeconvError
from deconv.files import file_hash, replacing_folder
from deconv.manifest import FILES, FORMAT_VERSION, MANIFEST, Manifest, read_manifest
from deconv.model import TwoStageNetwork
from deconv.regions import RegionSet
from deconv.trained_range import TrainedRange

__all__ = ["FILES", "Bundle", "bundle_hash", "check_bundle", "read_bundle", "write_bundle"]

_DAMAGE = (KeyError, TypeError, ValueError, RuntimeError, SafetensorError)
_NO_CARD = "Nothing was written about this model.\n"


@dataclass(frozen=True)
class Bundle:
    """A network, its atlas, how sure it is, and where they come from (run, hashes, donors).

    ``card`` says in Markdown what the model is for and how good it is; ``trained`` what samples
    like those that it was trained on look like.
    """

    network: TwoStageNetwork
    atlas: Atlas
    calibration: Calibration | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    card: str = ""
    trained: TrainedRange | None = None


def write_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a bundle as a new folder, whole or not at all."""
    network, atlas = bundle.network, bundle.atlas
    regions = atlas.regions
    with replacing_folder(folder) as temporary:
        weights = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
        save_file(weights, temporary / FILES[0])
        arrays = {name: getattr(atlas, name) for name in ("mean", "rho", "profile", "n_donors")}
        save_arrays(arrays, temporary / FILES[1])
        pd.DataFrame(regions.columns()).to_csv(temporary / FILES[2], sep="\t", index=False)
        (temporary / FILES[3]).write_text(bundle.card or _NO_CARD)
        manifest = {
            "format_version": FORMAT_VERSION,
            "tissues": list(atlas.tissues),
            "build": regions.build,
            "feature": regions.feature,
            "read_effect": network.estimator.read_effect,
            "model": network.config.model_dump(mode="json"),
            "atlas_hash": atlas.content_hash,
            "trained": None if bundle.trained is None else bundle.trained.to_dict(),
            "calibration": None if bundle.calibration is None else bundle.calibration.to_dict(),
            "provenance": bundle.provenance,
            "sha256": {name: file_hash(temporary / name) for name in FILES},
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))


def read_bundle(folder: Path, *, device: torch.device | str = "cpu") -> Bundle:
    """Read a bundle.

    Raises
    ------
    InputError
        If a file is missing.
    CheckpointError
        If the version is another, or any file is not what was written.
    """
    manifest = read_manifest(folder)
    try:
        table = pd.read_csv(folder / FILES[2], sep="\t", dtype={"chrom": str})
        regions = RegionSet.from_columns(table, manifest.build, manifest.feature)
        arrays: dict[str, np.ndarray] = load_arrays(folder / FILES[1])
        _check_arrays(arrays, len(manifest.tissues), len(regions))
        atlas = Atlas(tuple(manifest.tissues), regions, **arrays)
        network = _network(manifest, atlas, load_file(folder / FILES[0]))
        calibration = None
        if manifest.calibration is not None:
            calibration = Calibration.from_dict(manifest.calibration, len(atlas.tissues))
        trained = None if manifest.trained is None else TrainedRange.from_dict(manifest.trained)
        card = folder / FILES[3]
        text = card.read_text(encoding="utf-8") if card.exists() else ""
    except (*_DAMAGE, DeconvError) as error:
        raise CheckpointError("the parts do not fit together", where=folder, got=error) from error
    if atlas.content_hash != manifest.atlas_hash:
        raise CheckpointError("the atlas is not what was written", where=folder)
    return Bundle(
        network.to(device).eval(), atlas, calibration, manifest.provenance, text, trained
    )


def _check_arrays(arrays: dict[str, np.ndarray], n_tissues: int, n_regions: int) -> None:
    """Refuse arrays of an atlas of other names, shapes or kinds, and values that none has.

    Raises
    ------
    CheckpointError
        If there are such.
    """
    shapes = {
        "mean": (n_tissues, n_regions), "rho": (n_regions,), "profile": (n_regions,),
        "n_donors": (n_tissues,),
    }  # fmt: skip
    if arrays.keys() != shapes.keys():
        raise CheckpointError(
            "the atlas has other arrays", got=", ".join(sorted(arrays)), expected=", ".join(shapes)
        )
    for name, array in arrays.items():
        kind = "i" if name == "n_donors" else "f"
        if array.shape != shapes[name] or array.dtype.kind != kind:
            raise CheckpointError(
                f"{name} of the atlas is another array", got=f"{array.dtype} {array.shape}",
                expected=f"{kind} {shapes[name]}, by tissues and regions",
            )  # fmt: skip
        # NaN is in no range.
        if not ((array >= 0) & (array < (1 if name == "mean" else np.inf))).all():
            raise CheckpointError(f"{name} of the atlas has values that no atlas has")


def _network(manifest: Manifest, atlas: Atlas, weights: dict[str, Tensor]) -> TwoStageNetwork:
    """Return the network of a manifest with its weights.

    Raises
    ------
    CheckpointError
        If the weights are of another network, or no numbers.
    """
    config = manifest.model
    # What is stated must not take much more memory than there is to fill it.
    least = config.hidden_size * (2 * config.hidden_size + config.intermediate_size)
    n_stored = sum(tensor.numel() for tensor in weights.values())
    if least > n_stored:
        raise CheckpointError(
            "the weights are of a smaller network", got=f"{n_stored} values",
            expected=f"{least} or more",
        )  # fmt: skip
    network = TwoStageNetwork(config, atlas, read_effect=manifest.read_effect)
    network.load_state_dict(weights)
    for name, tensor in weights.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise CheckpointError("weights that are no numbers", where=name)
    return network


def check_bundle(folder: Path) -> None:
    """Compare a bundle's files with their hashes, without loading; errors as `read_bundle`."""
    read_manifest(folder)


def bundle_hash(folder: Path) -> str:
    """Return the SHA-256 of a bundle's manifest, which holds those of all else."""
    return file_hash(folder / MANIFEST)
