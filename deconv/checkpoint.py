"""Checkpoints: a network with everything needed to use it or to go on training.

A checkpoint (format version 1) is a ``torch.save`` file of tensors and plain values, read
with ``weights_only=True``, which runs no code. It holds the atlas (tissues, regions,
profiles) and the model's settings beside the weights, so it stands on its own.
"""

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from deconv.atlas import Atlas
from deconv.errors import CheckpointError, DeconvError, MismatchError
from deconv.files import replacing, require_file
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.regions import RegionSet

FORMAT_VERSION = 2


@dataclass(frozen=True)
class Checkpoint:
    """The network of an epoch; ``state`` has what resuming needs, if it was kept."""

    network: TwoStageNetwork
    atlas: Atlas
    epoch: int
    state: dict[str, Any] | None = None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    network, atlas = checkpoint.network, checkpoint.atlas
    content = {
        "format_version": FORMAT_VERSION,
        "epoch": checkpoint.epoch,
        "model": network.config.model_dump_json(),
        "read_effect": network.estimator.read_effect,
        "atlas": {
            "tissues": list(atlas.tissues),
            "build": atlas.regions.build,
            "feature": atlas.regions.feature,
            **{name: column.tolist() for name, column in atlas.regions.columns().items()},
            "mean": torch.from_numpy(atlas.mean),
            "rho": torch.from_numpy(atlas.rho),
            "profile": torch.from_numpy(atlas.profile),
            "n_donors": torch.from_numpy(atlas.n_donors),
        },
        "atlas_hash": atlas.content_hash,
        "weights": network.state_dict(),
        "state": checkpoint.state,
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch hides it: a full disk
                raise error.__context__ from error
            raise


def load_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    InputError
        If there is no such file.
    CheckpointError
        If it is truncated, damaged, of another version, or holds anything but tensors
        and plain values.
    """
    content = read_safely(path, device)
    if content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            "another format version", where=path,
            got=content.get("format_version"), expected=FORMAT_VERSION,
        )  # fmt: skip
    try:
        atlas = _atlas(content["atlas"])
        network = TwoStageNetwork(
            ModelConfig.model_validate_json(content["model"]),
            atlas,
            read_effect=content["read_effect"],
        )
        network.load_state_dict(content["weights"])
    except (KeyError, TypeError, RuntimeError, AttributeError, ValidationError) as error:
        raise CheckpointError("a part is missing or damaged", where=path, got=error) from error
    except DeconvError as error:
        raise CheckpointError(str(error), where=path) from error
    if atlas.content_hash != content["atlas_hash"]:
        raise CheckpointError("the atlas is not what was written", where=path)
    return Checkpoint(network.to(device), atlas, content["epoch"], content["state"])


def read_safely(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a ``torch.save`` file of tensors and plain values; errors as `load_checkpoint`."""
    require_file(path)
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "not a checkpoint, or one that would run code", where=path,
            expected="tensors and plain values only",
        ) from error  # fmt: skip
    except (RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError("truncated or damaged", where=path, got=reason) from error
    if not isinstance(content, dict):
        raise CheckpointError("not a checkpoint", where=path, got=type(content).__name__)
    return content


def start_from(network: TwoStageNetwork, atlas: Atlas, pretrained: Checkpoint, where: str) -> None:
    """Give ``network`` the weights of a network of the same tissues and regions.

    Raises
    ------
    MismatchError
        If tissues, regions or layer sizes differ.
    """
    if pretrained.atlas.tissues != atlas.tissues:
        raise MismatchError(
            "the checkpoint knows other tissues", where=where,
            got=", ".join(pretrained.atlas.tissues), expected=", ".join(atlas.tissues),
        )  # fmt: skip
    if not pretrained.atlas.regions.is_same(atlas.regions):
        raise MismatchError(
            "the checkpoint knows other regions", where=where,
            got=f"{len(pretrained.atlas.regions)} of build {pretrained.atlas.regions.build}",
            expected=f"{len(atlas.regions)} of build {atlas.regions.build}",
        )  # fmt: skip
    try:
        network.load_state_dict(pretrained.network.state_dict())
    except RuntimeError as error:
        raise MismatchError(
            "the checkpoint is of another network", where=where, got=pretrained.network.config,
            expected=network.config,
        ) from error  # fmt: skip


def _atlas(saved: dict[str, Any]) -> Atlas:
    regions = RegionSet.from_columns(
        {k: v.cpu() if isinstance(v, torch.Tensor) else v for k, v in saved.items()},
        saved["build"],
        saved["feature"],
    )
    names = ("mean", "rho", "profile", "n_donors")
    return Atlas(tuple(saved["tissues"]), regions, *(saved[name].cpu().numpy() for name in names))
