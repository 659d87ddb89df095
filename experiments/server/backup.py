"""Backups: a folder with the database, the artifacts and a manifest of hashes.

The database is taken first, at one moment, then the artifacts. An artifact is written before
the database speaks of it, so all that the backup's database names is in the backup.
"""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import sqlalchemy as sa
from mlflow.entities import LoggedModelStatus
from sqlalchemy.engine import Connection

from deconv.files import file_hash, replacing_folder, write_text
from experiments.server.artifacts import (
    PROXIED,
    ArtifactError,
    ArtifactStore,
    Folder,
    locate,
    open_artifacts,
)
from experiments.server.database import DatabaseError, read_contents
from experiments.server.dump import dumped
from experiments.server.process import locked
from experiments.server.settings import ServerSettings

FORMAT = 1
AT_ONCE = 8
_READY = LoggedModelStatus.READY.to_int()


@dataclass(frozen=True)
class Backup:
    """What a backup has in it."""

    path: Path
    runs: int
    artifacts: int
    size: int
    """Bytes of the database and all artifacts."""
    left_out: tuple[str, ...]
    """What is not in it, and why."""


def back_up(settings: ServerSettings, path: Path) -> Backup:
    """Write a backup to a new folder; the server may run meanwhile.

    Raises
    ------
    DatabaseError, ArtifactError, ConfigError
        If the database or the artifacts cannot be read whole.
    InputError
        If the folder is there already.
    """
    if read_contents(settings).revision is None:
        raise DatabaseError("there is nothing to back up", where=settings.database)
    with locked(settings), _new_folder(path) as folder:
        with dumped(settings, folder / "database") as connection:
            n_runs = int(str(connection.scalar(sa.text("SELECT count(*) FROM runs"))))
            revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
            locations = _column(connection, "SELECT artifact_location FROM experiments")
            models = _column(
                connection,
                "SELECT artifact_location FROM logged_models "
                f"WHERE lifecycle_stage = 'active' AND status = {_READY}",
            )
        stores, left_out = _stores(settings, locations)
        for number, store in enumerate(stores):
            _fetch_all(store, folder / "artifacts" / str(number))
        roots = {store.root: number for number, store in enumerate(stores)}
        left_out += _lost_models(settings, models, folder / "artifacts", roots)
        files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        manifest = {
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "mlflow": mlflow.__version__,
            "schema": revision,
            "database": settings.url.get_backend_name(),
            "runs": n_runs,
            # The first is the server's own store, wherever the target has it.
            "artifacts": [store.root for store in stores],
            "left_out": left_out,
            "files": {
                p.relative_to(folder).as_posix(): {
                    "bytes": p.stat().st_size,
                    "sha256": file_hash(p),
                }
                for p in files
            },
        }
        write_text(folder / "manifest.json", json.dumps(manifest, indent=1))
        size = sum(p.stat().st_size for p in files)
    return Backup(path, n_runs, len(files) - 1, size, tuple(left_out))


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Make a folder, whole or not at all; what the users' table has is for its owner only."""
    try:
        with replacing_folder(path) as folder:
            folder.chmod(0o700)
            yield folder
    except OSError as error:
        raise ArtifactError("cannot write the backup", where=path, got=error) from error


def _fetch_all(store: ArtifactStore, folder: Path) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda name: store.fetch(name, folder / name), store.names()))


def _stores(
    settings: ServerSettings, locations: Iterable[str]
) -> tuple[list[ArtifactStore], list[str]]:
    """Return the server's store and the local folders that experiments write to, then the rest."""
    stores: list[ArtifactStore] = [open_artifacts(settings)]
    left_out = []
    for location in sorted(set(locations)):
        if location.startswith(PROXIED):
            continue
        try:
            parent, name = locate(location, settings)
        except ArtifactError:
            left_out.append(f"{location}: artifacts of another store")
        else:
            stores.append(Folder(Path(parent.root) / name))
    return stores, left_out


def _lost_models(
    settings: ServerSettings, models: Iterable[str], copies: Path, roots: dict[str, int]
) -> list[str]:
    """Return the finished models of the database that are not among the copies."""
    lost = []
    for uri in models:
        try:
            store, name = locate(uri, settings)
        except ArtifactError:
            continue  # in a place that is reported as left out
        path = Path(store.root) / name
        for root, number in roots.items():
            if store.root == root:
                copy = copies / str(number) / name
            elif path.is_relative_to(root):
                copy = copies / str(number) / path.relative_to(root)
            else:
                continue
            if not (copy / "MLmodel").is_file():
                lost.append(f"{uri}: the model has lost its files")
    return lost


def _column(connection: Connection, query: str) -> list[str]:
    return [str(value) for value in connection.scalars(sa.text(query)) if value is not None]
