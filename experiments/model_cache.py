"""Registered models kept on this machine, for nodes that do not reach the registry.

``$DECONV_CACHE``, else ``$XDG_CACHE_HOME/deconv``, else ``~/.cache/deconv``, holds in
``models/KEY`` (KEY: of registry and name) a folder ``VERSION-HASH`` for each bundle (HASH: of its
manifest), ``version-3.json``, which says what version 3 is, and ``alias-production.json``, which
says what the alias last named. All of it is put in place whole, by whichever process is first, and
the hashes are compared again whenever a bundle is taken from there.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import mlflow
from mlflow.tracking import MlflowClient

from deconv.bundle import bundle_hash, check_bundle
from deconv.errors import CheckpointError, ConfigError, DeconvError
from deconv.files import write_text
from experiments.fetch import bundle_in, no_model, registry_name
from experiments.names import BUNDLE_HASH
from experiments.store import AwayError, DeniedError, TrackingError, store_name, tracking_errors

OFFLINE = "DECONV_OFFLINE"
"""Set to 1, the registry is not asked at all."""
_ANSWER_WITHIN = "10"  # seconds: a network without a way out drops packets instead of refusing
_LEFT_BEHIND = 86400.0  # seconds after which an unfinished download belongs to nobody


@dataclass(frozen=True)
class Fetched:
    """A registered model's bundle on this machine.

    ``note`` says so where an alias could not be resolved now; empty otherwise. ``run_id`` is
    that of the run that the registry names, empty if it names none.
    """

    folder: Path
    name: str
    version: str
    sha256: str
    note: str = ""
    run_id: str = ""


@dataclass(frozen=True)
class _Version:
    """A version as the registry describes it; ``sha256`` of its bundle is known once fetched."""

    version: str
    source: str
    created: str
    sha256: str | None
    run_id: str


def cache_folder() -> Path:
    """Return where models are kept."""
    if os.environ.get("DECONV_CACHE"):
        return Path(os.environ["DECONV_CACHE"]).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache").absolute() / "deconv"


def fetch_cached(uri: str) -> Fetched:
    """Return a registered model from the cache, where it is put first if it is not there.

    Parameters
    ----------
    uri
        ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises
    ------
    ConfigError
        If the registry has no such model, or is away and the cache has none either.
    TrackingError
        If the registry denies access.
    CheckpointError
        If the cached bundle is damaged and the registry is away, or the registry's is.
    """
    name, alias, number = registry_name(uri)
    place = cache_folder() / "models" / _key(name)
    try:
        found = _ask(name, alias, number, uri)
    except DeniedError:
        raise
    except AwayError as error:
        return _from_cache(place, uri, name, alias, number, error)
    kept = _read(place / f"version-{found.version}.json")
    same = kept.get("source") == found.source and kept.get("created") == found.created
    known = found.sha256 or (str(kept["sha256"]) if same else None)
    folder = None if known is None else _whole(place / _folder_name(found.version, known))
    if folder is None:
        folder, known = _download(place, uri, name, found)
    assert known is not None
    now = datetime.now(UTC).isoformat(timespec="seconds")
    said = {**asdict(found), "sha256": known, "name": name, "registry": _registry(), "at": now}
    write_text(place / f"version-{found.version}.json", json.dumps(said, indent=1))
    if alias is not None:
        write_text(place / _alias_file(alias), json.dumps({"version": found.version, "at": now}))
    return Fetched(folder, name, found.version, known, run_id=found.run_id)


def _ask(name: str, alias: str | None, number: str | None, uri: str) -> _Version:
    """Ask the registry which version is meant, and what it is."""
    if os.environ.get(OFFLINE, "") not in ("", "0"):
        raise AwayError("the registry is not asked", where=_registry(), got=f"{OFFLINE}=1")
    with _answering_soon(), no_model(uri), tracking_errors("cannot read the registry"):
        client = MlflowClient()
        if alias is not None:
            found = client.get_model_version_by_alias(name, alias)
        else:
            found = client.get_model_version(name, str(number))
    return _Version(
        str(found.version), str(found.source), str(found.creation_timestamp),
        found.tags.get(BUNDLE_HASH), found.run_id or "",
    )  # fmt: skip


def _from_cache(
    place: Path, uri: str, name: str, alias: str | None, number: str | None, reason: TrackingError
) -> Fetched:
    """Return what is in the cache; of an alias, the version that it last named."""
    note, version = "", number
    if alias is not None:
        last = _read(place / _alias_file(alias))
        version = last.get("version")
        note = (
            f"{uri}: taken to be version {version}, which it was on {last.get('at')};"
            f" now it is not known ({reason})"
        )
    kept = {} if version is None else _read(place / f"version-{version}.json")
    if version is None or not kept:
        raise ConfigError(
            "the registry cannot be asked and the model is not in the cache", where=place,
            got=f"{uri}: {reason}",
            expected=f"deconv models --fetch {uri} while it can be reached",
        ) from reason  # fmt: skip
    folder = place / _folder_name(version, str(kept["sha256"]))
    check_bundle(folder)
    return Fetched(folder, name, version, str(kept["sha256"]), note, kept.get("run_id", ""))


def _download(place: Path, uri: str, name: str, found: _Version) -> tuple[Path, str]:
    """Fetch a version's bundle, check it, and put it in its place."""
    place.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    temporary = place / f".{uuid.uuid4().hex[:8]}-download"
    temporary.mkdir()
    try:
        pinned = f"models:/{name}/{found.version}"
        with no_model(uri):
            got = mlflow.artifacts.download_artifacts(artifact_uri=pinned, dst_path=str(temporary))
        bundle = bundle_in(Path(got))
        check_bundle(bundle)
        sha256 = bundle_hash(bundle)
        if found.sha256 not in (None, sha256):
            raise CheckpointError(
                "the files are not those that were registered", where=pinned, got=sha256,
                expected=found.sha256,
            )  # fmt: skip
        target = place / _folder_name(found.version, sha256)
        if target.exists() and _whole(target) is None:
            target.replace(temporary / "damaged")  # goes with the rest of the download
        try:
            bundle.replace(target)
        except OSError:  # not empty: another process was first, with the same files
            check_bundle(target)
        return target, sha256
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _whole(folder: Path) -> Path | None:
    """Return a cached bundle, None if it is not there or not what was written."""
    try:
        check_bundle(folder)
    except DeconvError:
        return None  # fetched again: the registry has the original
    return folder


def _sweep(place: Path) -> None:
    """Remove downloads that were killed."""
    for left in place.glob(".*-download"):
        try:
            if time.time() - left.stat().st_mtime > _LEFT_BEHIND:
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:
            continue  # finished meanwhile


def _read(path: Path) -> dict[str, str]:
    """Return what is noted; nothing if it is not there."""
    try:
        found: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CheckpointError("the cache is damaged", where=path, expected="remove it") from error
    return found


def _registry() -> str:
    return store_name(mlflow.get_registry_uri())


def _key(name: str) -> str:
    return hashlib.sha256(f"{_registry()}\n{name}".encode()).hexdigest()[:16]


def _folder_name(version: str, sha256: str) -> str:
    return f"{version}-{sha256[:16]}"


def _alias_file(alias: str) -> str:
    return f"alias-{quote(alias, safe='')}.json"


@contextmanager
def _answering_soon() -> Iterator[None]:
    """Let MLflow's client ask once and not wait long, unless the user set how."""
    wanted = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": _ANSWER_WITHIN,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
