"""From SQLite to PostgreSQL: all rows of all tables, and the artifacts into the server's store.

Runs made without a server have their artifacts in a local folder; they move to the new server's
store, and what the database says of their place moves along.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from mlflow.store.db.base_sql_model import Base
from mlflow.store.db.utils import _initialize_tables
from mlflow.store.model_registry.dbmodels import models as _registry  # noqa: F401  (tables)
from mlflow.store.tracking.dbmodels import models as _tracking  # noqa: F401  (tables)
from sqlalchemy.engine import Connection

from deconv.errors import ConfigError, InputError
from experiments.server.artifacts import PROXIED, ArtifactError, Folder, locate, open_artifacts
from experiments.server.backup import put_all, require_empty
from experiments.server.database import (
    DatabaseError,
    check_revision,
    connected,
    database_url,
    latest_revision,
    read_contents,
)
from experiments.server.dump import copy_sqlite
from experiments.server.process import ServerError, locked, running
from experiments.server.settings import ServerSettings

_BATCH = 1000
_PLACES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
_ROWS_OF_EMPTY = {"experiments": 1, "workspaces": 1}
"""What MLflow itself puts into a new database: the defaults."""
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
            found = running(settings)
            if found is not None:
                raise ServerError("the server runs", where=found.address, expected="stop it first")
        copy = Path(folder) / "mlflow.db"
        copy_sqlite(source.sqlite_file, copy)
        snapshot = source.model_copy(update={"database": f"sqlite:///{copy}"})
        _check(source, snapshot, target)
        done = Migration()
        with connected(snapshot) as old, connected(target) as new:
            moves = _move_artifacts(source, target, old, done)
            _copy(old, new, moves, target, done)
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
        rows = [name for name in sorted(unknown) if _count(old, sa.table(name))]
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
            if (n_rows := _count(new, table)) > _ROWS_OF_EMPTY.get(name, 0):
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


def _copy(
    old: Connection,
    new: Connection,
    move: Callable[[str], str],
    target: ServerSettings,
    done: Migration,
) -> None:
    for name in _ROWS_OF_EMPTY:
        new.execute(sa.delete(Base.metadata.tables[name]))
    for table in Base.metadata.sorted_tables:  # those first that others refer to
        sent = _Content()
        try:
            for batch in _batches(sent.watch(_rows(old, table, move))):
                new.execute(sa.insert(table), batch)
        except (sa.exc.DBAPIError, ValueError) as error:  # ValueError: a text with NUL
            reason = " ".join(str(getattr(error, "orig", error)).split())
            raise DatabaseError(
                f"PostgreSQL refuses a row of {table.name}", where=target.database, got=reason
            ) from error
        arrived = _Content()
        for _ in arrived.watch(_rows(new, table, str)):
            pass
        if arrived != sent:
            raise DatabaseError(
                f"{table.name} did not arrive as it was sent", where=target.database,
                got=f"{arrived.n_rows} rows", expected=f"{sent.n_rows} rows",
            )  # fmt: skip
        if sent.n_rows:
            done.rows[table.name] = sent.n_rows
        _set_sequence(new, table)


def _rows(
    connection: Connection, table: sa.Table, move: Callable[[str], str]
) -> Iterator[dict[str, Any]]:
    places = _PLACES.get(table.name, ())
    result = connection.execute(sa.select(table), execution_options={"yield_per": _BATCH})
    for row in result.mappings():
        values = dict(row)
        for column in places:
            if values[column] is not None:
                values[column] = move(values[column])
        yield values


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass
class _Content:
    """The number of rows and the sum of their hashes: the same in any order."""

    n_rows: int = 0
    total: int = 0

    def watch(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            text = repr([row[key] for key in sorted(row)])
            self.n_rows += 1
            self.total += int.from_bytes(hashlib.sha256(text.encode()).digest())
            yield row


def _set_sequence(connection: Connection, table: sa.Table) -> None:
    """Let the numbers that PostgreSQL gives go on after those that came along."""
    for column in table.columns:
        if column.autoincrement is not True:
            continue
        query = sa.text("SELECT pg_get_serial_sequence(:table, :column)")
        sequence = connection.scalar(query, {"table": table.name, "column": column.name})
        if sequence is not None:
            highest = sa.select(sa.func.max(column))
            value = connection.scalar(highest)
            if value is not None:
                connection.execute(
                    sa.text("SELECT setval(:sequence, :value)"),
                    {"sequence": sequence, "value": max(int(value), 1)},
                )


def _count(connection: Connection, table: sa.FromClause) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)
