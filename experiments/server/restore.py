"""A backup put in the place of a server's database and artifacts, after its hashes agreed."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow

from deconv.errors import InputError
from deconv.files import file_hash
from experiments.server.artifacts import ArtifactError, ArtifactStore, Folder, open_artifacts
from experiments.server.backup import AT_ONCE, FORMAT, Backup
from experiments.server.database import DatabaseError, latest_revision, read_contents
from experiments.server.dump import load
from experiments.server.process import locked, require_stopped
from experiments.server.settings import ServerSettings


def restore(settings: ServerSettings, path: Path, *, replace: bool) -> Backup:
    """Put a backup in place; artifacts first, so that the database never names a missing one.

    With ``replace`` the target may have runs, which are lost; artifacts that the backup does
    not have stay.

    Raises
    ------
    InputError
        If the backup is incomplete, changed, or of another kind of database.
    DatabaseError, ArtifactError
        If the target is not empty (without ``replace``), or refuses.
    ServerError
        If the server runs.
    """
    manifest = _verified(path)
    kind = settings.url.get_backend_name()
    if manifest["database"] != kind:
        raise InputError(
            "the backup is of another kind of database", where=path, got=manifest["database"],
            expected=f"{kind} (restore it there, then deconv server migrate)",
        )  # fmt: skip
    if manifest["schema"] != latest_revision():
        raise InputError(
            "the backup is of another version of MLflow", where=path, got=manifest["mlflow"],
            expected=f"one with the schema of MLflow {mlflow.__version__}",
        )  # fmt: skip
    stores: list[ArtifactStore] = [open_artifacts(settings)]
    stores += [Folder(Path(root)) for root in manifest["artifacts"][1:]]
    with locked(settings):
        require_stopped(settings)
        if not replace:
            require_empty(settings)
            for store in stores:
                if next(iter(store.names()), None) is not None:
                    raise ArtifactError(
                        "there are artifacts already", where=store.root,
                        expected="an empty place, or --replace",
                    )  # fmt: skip
        for number, store in enumerate(stores):
            put_all(Folder(path / "artifacts" / str(number)), store)
        load(settings, path / "database")
    files = manifest["files"]
    size = sum(entry["bytes"] for entry in files.values())
    return Backup(path, manifest["runs"], len(files) - 1, size, tuple(manifest["left_out"]))


def require_empty(settings: ServerSettings) -> None:
    """Refuse a database that holds more than MLflow's own default experiment.

    Raises
    ------
    DatabaseError
        If it does.
    """
    if settings.is_sqlite and not settings.sqlite_file.exists():
        return
    contents = read_contents(settings)
    if contents.runs or contents.registered_models or contents.experiments > 1:
        raise DatabaseError(
            "the database is not empty", where=settings.database,
            got=f"{contents.runs} runs, {contents.experiments} experiments",
            expected="an empty one, or --replace where a command has it",
        )  # fmt: skip


def put_all(source: Folder, target: ArtifactStore, *, below: str = "") -> int:
    """Copy all files of a folder into a store, below a prefix, and return their number."""
    names = list(source.names())

    root = Path(source.root)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda name: target.put(root / name, below + name), names))
    return len(names)


def _verified(path: Path) -> dict[str, Any]:
    """Return the manifest of a backup after comparing all hashes."""
    file = path / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(file.read_text())
        version, files = manifest["format"], manifest["files"]
    except OSError as error:
        raise InputError("not a backup", where=file, got=error.strerror) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("the manifest is damaged", where=file, got=error) from error
    if version != FORMAT:
        raise InputError("a backup of another format", where=file, got=version, expected=FORMAT)
    extra = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()} - set(files)
    if extra != {file.name}:
        raise InputError("a file that the backup did not have", where=path, got=max(extra))
    for name, entry in files.items():
        if not (path / name).is_file():
            raise InputError("a file of the backup is missing", where=path / name)
        if file_hash(path / name) != entry["sha256"]:
            raise InputError("the file is not what was backed up", where=path / name)
    return manifest
