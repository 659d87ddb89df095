"""From SQLite to PostgreSQL: all rows of all tables, and the artifacts into the server's store.

Runs made without a server have their artifacts in a local folder; they move to the new server's
store, and what the database says of their place moves along.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from mlflow.store.db.base_sql_model import Base
from mlflow.store.db.utils import _initialize_tables
from sqlalchemy.engine import Connection

from deconv.errors import ConfigError, InputError
from experiments.server.artifacts import PROXIED, ArtifactError, Folder, locate, open_artifacts
from experiments.server.copy_rows import ROWS_OF_EMPTY, copy_rows, count_rows
from experiments.server.database import (
    DatabaseError,
    check_revision,
    connected,
    database_url,
    latest_revision,
    read_contents,
)
from experiments.server.dump import copy_sqlite
from experiments.server.process import locked, require_stopped
from experiments.server.restore import put_all, require_empty
from experiments.server.settings import ServerSettings

_NOT_DATA = {"alembic_version", "sqlite_sequence"}


@dataclass
class Migration:
    """What moved."""

    rows: dict[str, int] = field(default_factory=dict)
    """Of each table that has any."""
    artifacts: int = 0
    left: list[str] = field(default_factory=list)
    """Places of artifacts that stay where they are."""


def migrate(source: ServerSettings, target: ServerSettings) -> Migration:
    """Copy an SQLite store into an empty PostgreSQL database, in one transaction.

    The source stays as it is. Every table's rows are compared, by number and content, before
    the transaction ends.

    Raises
    ------
    ConfigError, InputError
        If the source is no SQLite store of this MLflow, or the target no PostgreSQL.
    DatabaseError, ArtifactError
        If the target is not empty, refuses, or has not what was copied.
    ServerError
        If either server runs.
    """
    if not source.is_sqlite or target.is_sqlite:
        raise ConfigError(
            "migration goes from SQLite to PostgreSQL",
            got=f"{source.url.get_backend_name()} to {target.url.get_backend_name()}",
        )
    with locked(source), locked(target), tempfile.TemporaryDirectory() as folder:
        for settings in (source, target):
            require_stopped(settings)
        copy = Path(folder) / "mlflow.db"
        copy_sqlite(source.sqlite_file, copy)
        snapshot = source.model_copy(update={"database": f"sqlite:///{copy}"})
        _check(source, snapshot, target)
        done = Migration()
        with connected(snapshot) as old, connected(target) as new:
            moves = _move_artifacts(source, target, old, done)
            done.rows = copy_rows(old, new, moves, target)
    return done


def _check(source: ServerSettings, snapshot: ServerSettings, target: ServerSettings) -> None:
    contents = read_contents(snapshot)
    if contents.revision != latest_revision():
        raise InputError(
            "the store is of another version of MLflow", where=source.sqlite_file,
            got=contents.revision, expected=f"{latest_revision()}: see mlflow db upgrade",
        )  # fmt: skip
    with connected(snapshot) as old:
        unknown = set(sa.inspect(old).get_table_names()) - set(Base.metadata.tables) - _NOT_DATA
        rows = [name for name in sorted(unknown) if count_rows(old, sa.table(name))]
    if rows:
        raise InputError("tables that MLflow does not have", where=source.sqlite_file, got=rows)
    require_empty(target)
    found = read_contents(target)
    check_revision(target, found)
    if found.revision is None:
        engine = sa.create_engine(database_url(target))
        try:
            _initialize_tables(engine)  # type: ignore[no-untyped-call]
        finally:
            engine.dispose()
    with connected(target) as new:
        for name, table in Base.metadata.tables.items():
            if (n_rows := count_rows(new, table)) > ROWS_OF_EMPTY.get(name, 0):
                raise DatabaseError(
                    "the database is not empty", where=target.database, got=f"{n_rows} {name}"
                )
    store = open_artifacts(target)
    if next(iter(store.names()), None) is not None:
        raise ArtifactError("there are artifacts already", where=store.root, expected="no files")


def _move_artifacts(
    source: ServerSettings, target: ServerSettings, old: Connection, done: Migration
) -> Callable[[str], str]:
    """Copy all artifacts, and return what turns an old URI into the new one."""
    store, theirs = open_artifacts(target), open_artifacts(source)
    if isinstance(theirs, Folder) and theirs.root != store.root:
        done.artifacts += put_all(theirs, store)
    moved: list[tuple[str, str]] = []
    experiments = old.execute(sa.text("SELECT experiment_id, artifact_location FROM experiments"))
    for number, location in experiments:
        if location is None or location.startswith(PROXIED):
            continue
        try:
            parent, name = locate(location, source)
        except ArtifactError:
            done.left.append(location)
            continue
        done.artifacts += put_all(Folder(Path(parent.root) / name), store, below=f"{number}/")
        moved.append((location.rstrip("/"), f"{PROXIED}/{number}"))

    def move(uri: str) -> str:
        for place, new in moved:
            if uri == place or uri.startswith(f"{place}/"):
                return new + uri[len(place) :]
        known = uri.startswith((PROXIED, "models:/", "runs:/", *done.left))
        if not known:
            done.left.append(uri)
        return uri

    return move
