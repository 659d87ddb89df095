"""What a bundle says of itself: `manifest.json`, and the files that it lists.

A bundle may come from anybody. So sizes are limited before anything is read, all of the manifest
is checked before any of it is used, links are not followed, and no file is opened whose hash is
not the one listed.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deconv.errors import CheckpointError
from deconv.files import file_hash, require_file
from deconv.model import ModelConfig

FORMAT_VERSION = 3
MANIFEST = "manifest.json"
FILES = ("weights.safetensors", "atlas.safetensors", "regions.tsv", "MODEL_CARD.md")
_FILES_OF = {2: FILES[:3], 3: FILES}
_MAX_BYTES = dict(zip((*FILES, MANIFEST), (2**33, 2**33, 2**30, 2**20, 2**24), strict=True))
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(min_length=1)]


class Provenance(BaseModel):
    """Where a model comes from; ``donors`` of each part of the data, hashes of what entered."""

    model_config = ConfigDict(extra="allow", strict=True)

    run: str = "unknown"
    run_id: str | None = None
    sha256: dict[str, str] = {}
    donors: dict[str, list[str]] = {}


class Manifest(BaseModel):
    """The content of `manifest.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    format_version: Literal[2, 3]
    tissues: Annotated[list[_Name], Field(min_length=2, max_length=1000)]
    build: str
    feature: Literal["cpg", "u_fragment"]
    read_effect: Annotated[float, Field(ge=0)]
    model: ModelConfig
    atlas_hash: _Sha256
    trained: dict[str, Any] | None = None
    calibration: dict[str, Any] | None
    provenance: dict[str, Any]
    sha256: dict[str, _Sha256]

    @model_validator(mode="after")
    def _check(self) -> "Manifest":
        if len(set(self.tissues)) < len(self.tissues):
            raise ValueError("a tissue occurs twice")
        Provenance.model_validate(self.provenance)
        return self


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder that holds what it lists and nothing else.

    Raises
    ------
    InputError
        If a file is missing.
    CheckpointError
        If the version is another, or any file is not what was written.
    """
    _check_file(folder, MANIFEST)
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except ValidationError as error:
        raise _refusal(folder / MANIFEST, error) from error
    names = _FILES_OF[manifest.format_version]
    if set(manifest.sha256) != set(names):
        raise CheckpointError(
            "the manifest lists other files", where=folder,
            got=", ".join(sorted(manifest.sha256)), expected=", ".join(names),
        )  # fmt: skip
    odd = sorted({path.name for path in folder.iterdir()} - {MANIFEST, *names})
    if odd:
        raise CheckpointError("a file that does not belong there", where=folder, got=odd[0])
    for name in names:
        _check_file(folder, name)
        if file_hash(folder / name) != manifest.sha256[name]:
            raise CheckpointError("the file is not what was written", where=folder / name)
    return manifest


def _check_file(folder: Path, name: str) -> None:
    path = folder / name
    if path.is_symlink():
        raise CheckpointError("the file is not what was written", where=path, got="a link")
    require_file(path)
    size = path.stat().st_size
    if size > _MAX_BYTES[name]:
        raise CheckpointError(
            "the file is too large", where=path, got=f"{size} bytes",
            expected=f"{_MAX_BYTES[name]} at most",
        )  # fmt: skip


def _refusal(where: Path, error: ValidationError) -> CheckpointError:
    """Say the first thing that is wrong."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    if key == "format_version" and first["type"] == "literal_error":
        return CheckpointError(
            "another format version", where=where.parent, got=first["input"],
            expected=" or ".join(map(str, _FILES_OF)),
        )  # fmt: skip
    reason = first["msg"].removeprefix("Value error, ")
    return CheckpointError(
        "not a manifest", where=where, got=f"{key}: {reason}" if key else reason
    )
