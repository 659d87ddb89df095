"""The model as shipped: a folder with everything prediction needs, and nothing to execute.

Format version 3: ``manifest.json`` (settings, tissues, calibration, provenance, the SHA-256 of
each other file, and since they are kept, figures of the training samples),
``weights.safetensors``, ``atlas.safetensors`` (mean, rho, profile, n_donors), ``regions.tsv``
(chrom, start, end), ``MODEL_CARD.md`` (for people). Version 2 had no card. Reading compares all
hashes first, and refuses a folder with anything else in it.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from deconv.atlas import Atlas
from deconv.calibrate import Calibration
from deconv.errors import CheckpointError, DeconvError
from deconv.files import replacing_folder, require_file
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.regions import RegionSet
from deconv.trained_range import TrainedRange

FORMAT_VERSION = 3
MANIFEST = "manifest.json"
_DAMAGE = (KeyError, TypeError, ValueError, RuntimeError, SafetensorError, ValidationError)
FILES = ("weights.safetensors", "atlas.safetensors", "regions.tsv", "MODEL_CARD.md")
_NO_CARD = "Nothing was written about this model.\n"
_FILES_OF = {2: FILES[:3], 3: FILES}


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
            "sha256": {name: _file_hash(temporary / name) for name in FILES},
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
    manifest = _read_manifest(folder)
    try:
        table = pd.read_csv(folder / FILES[2], sep="\t", dtype={"chrom": str})
        regions = RegionSet.from_columns(table, manifest["build"], manifest["feature"])
        arrays: dict[str, np.ndarray] = load_arrays(folder / FILES[1])
        atlas = Atlas(tuple(manifest["tissues"]), regions, **arrays)
        network = TwoStageNetwork(
            ModelConfig.model_validate(manifest["model"]),
            atlas,
            read_effect=manifest["read_effect"],
        )
        network.load_state_dict(load_file(folder / FILES[0]))
        saved = manifest["calibration"]
        calibration = None
        if saved is not None:
            calibration = Calibration.from_dict(saved, len(atlas.tissues))
        measured = manifest.get("trained")
        trained = None if measured is None else TrainedRange.from_dict(measured)
    except (*_DAMAGE, DeconvError) as error:
        raise CheckpointError("the parts do not fit together", where=folder, got=error) from error
    if atlas.content_hash != manifest["atlas_hash"]:
        raise CheckpointError("the atlas is not what was written", where=folder)
    card = folder / FILES[3]
    return Bundle(
        network.to(device).eval(), atlas, calibration, manifest["provenance"],
        card.read_text() if card.exists() else "", trained,
    )  # fmt: skip


def check_bundle(folder: Path) -> None:
    """Compare a bundle's files with their hashes, without loading; errors as `read_bundle`."""
    _read_manifest(folder)


def bundle_hash(folder: Path) -> str:
    """Return the SHA-256 of a bundle's manifest, which holds those of all else."""
    return _file_hash(folder / MANIFEST)


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder that holds what it lists and nothing else."""
    require_file(folder / MANIFEST)
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        version, hashes = manifest["format_version"], dict(manifest["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError("not a manifest", where=folder / MANIFEST, got=error) from error
    if version not in _FILES_OF:
        raise CheckpointError(
            "another format version", where=folder, got=version,
            expected=" or ".join(map(str, _FILES_OF)),
        )  # fmt: skip
    names = _FILES_OF[version]
    if set(hashes) != set(names):
        raise CheckpointError(
            "the manifest lists other files", where=folder, got=", ".join(sorted(hashes)),
            expected=", ".join(names),
        )  # fmt: skip
    odd = sorted({path.name for path in folder.iterdir()} - {MANIFEST, *names})
    if odd:
        raise CheckpointError("a file that does not belong there", where=folder, got=odd[0])
    for name in names:
        require_file(folder / name)
        if (folder / name).is_symlink() or _file_hash(folder / name) != hashes[name]:
            raise CheckpointError("the file is not what was written", where=folder / name)
    return manifest


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
