"""Models from MLflow: what a URI names, and its files, checked and never executed."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.tracking import MlflowClient

from deconv.bundle import Bundle, bundle_hash, read_bundle
from deconv.errors import CheckpointError, ConfigError
from deconv.files import file_hash
from experiments.names import BUNDLE_HASH, CODE_HASH, FILES_HASH, MODEL_NAME, PRODUCTION
from experiments.store import (
    RefusedError,
    first_line,
    is_of_the_store,
    raise_denied,
    require_answer,
    store_name,
    tracking_errors,
)

_USUAL = f"a model such as models:/{MODEL_NAME}@{PRODUCTION} (see deconv promote)"
_PLACE = "artifacts/bundle"
_META = "registered_model_meta"  # written by MLflow when it fetches a version
_REGISTERED = re.compile(r"models:/([^/@]+)(?:@([^/]+)|/(\d+))")


def fetch_model(uri: str) -> Path:
    """Return the local folder of a registered model's bundle; nothing in it is executed.

    Raises
    ------
    ConfigError
        If the registry has no such model.
    TrackingError
        If the registry does not let the user read it, or is away.
    """
    if uri.startswith("models:/"):
        require_answer(mlflow.get_registry_uri())
    elif uri.startswith("runs:/"):
        require_answer()
    with no_model(uri):
        return bundle_in(Path(mlflow.artifacts.download_artifacts(artifact_uri=uri)))


def bundle_in(folder: Path) -> Path:
    """Return the bundle in the folder of an MLflow model."""
    bundle = folder / _PLACE
    return bundle if bundle.is_dir() else folder


@contextmanager
def no_model(uri: str) -> Iterator[None]:
    """Turn the errors of fetching a model, but not those of the way, into a `ConfigError`."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, RefusedError) or is_of_the_store(error)):
            raise
        raise_denied(error, "cannot fetch the model")
        raise ConfigError(
            "cannot fetch the model", where=store_name(mlflow.get_registry_uri()),
            got=f"{uri}: {first_line(error)}",
            expected=_USUAL,
        ) from error  # fmt: skip


def is_registered(uri: str) -> bool:
    """Whether a model's URI is one of a version or alias in the registry."""
    return _REGISTERED.fullmatch(uri) is not None


def registry_name(uri: str) -> tuple[str, str | None, str | None]:
    """Return name, alias and version (one of them None) of a registered model's URI.

    Raises
    ------
    ConfigError
        If it is no such URI.
    """
    found = _REGISTERED.fullmatch(uri)
    if found is None:
        raise ConfigError(
            "not a registered model", got=uri,
            expected=f"models:/{MODEL_NAME}@{PRODUCTION}, or models:/{MODEL_NAME}/VERSION",
        )  # fmt: skip
    return found[1], found[2], found[3]


def registered_version(uri: str) -> str | None:
    """Return the version that a model's URI names, None if it is not one of the registry.

    Raises
    ------
    TrackingError
        If the registry cannot be read.
    """
    if not is_registered(uri):
        return None
    name, alias, version = registry_name(uri)
    if alias is None:
        return version
    with tracking_errors("cannot fetch the model", expected=_USUAL):
        return str(MlflowClient().get_model_version_by_alias(name, alias).version)


def open_registered(name: str, version: str) -> Bundle:
    """Fetch a version as a user would, and check that it is complete and the one registered.

    Who may write to a run's files may not write to the registry, which has their hash.

    Raises
    ------
    CheckpointError
        If it is not.
    """
    folder = fetch_model(f"models:/{name}/{version}")
    bundle = read_bundle(folder)
    with tracking_errors("cannot read the registry"):
        tags = MlflowClient().get_model_version(name, version).tags
    for tag, found in file_hashes(folder).items():
        if tags.get(tag, found) != found:
            raise CheckpointError(
                "the files are not those that were registered", where=f"{name} {version}",
                got=f"{tag} {found}", expected=tags[tag],
            )  # fmt: skip
    return bundle


def file_hashes(folder: Path) -> dict[str, str]:
    """Return tags with the hashes of a fetched bundle, and of all that MLflow puts around it.

    Nothing here runs the code among that, but `mlflow models serve` does. Versions that were
    registered earlier have only the hash of the code.

    Raises
    ------
    CheckpointError
        If there is compiled code that cannot be removed.
    """
    tags = {BUNDLE_HASH: bundle_hash(folder)}
    root = folder.parent.parent
    if folder != root / _PLACE:
        return tags
    _remove_compiled(root)
    code, files = hashlib.sha256(), hashlib.sha256()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name == _META or folder in (path, *path.parents):
            continue
        line = f"{name} {file_hash(path) if path.is_file() else 'folder'}\n".encode()
        files.update(line)
        if path.suffix == ".py" and path.parent == root:
            code.update(line)
    return {**tags, CODE_HASH: code.hexdigest(), FILES_HASH: files.hexdigest()}


def _remove_compiled(root: Path) -> None:
    """Remove what Python compiled when MLflow loaded a model from a store on this machine.

    It would be run in place of the code whose hash is known.
    """
    try:
        shutil.rmtree(root / "__pycache__")
    except FileNotFoundError:
        return
    except OSError as error:
        raise CheckpointError(
            "compiled code that cannot be removed", where=root / "__pycache__", got=error.strerror
        ) from error
