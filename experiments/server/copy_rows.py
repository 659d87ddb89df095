"""All rows of MLflow's tables from one database into another, compared on arrival."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from mlflow.store.db.base_sql_model import Base
from mlflow.store.model_registry.dbmodels import models as _registry  # noqa: F401  (tables)
from mlflow.store.tracking.dbmodels import models as _tracking  # noqa: F401  (tables)
from sqlalchemy.engine import Connection

from experiments.server.database import DatabaseError
from experiments.server.settings import ServerSettings

_BATCH = 1000
_PLACES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
ROWS_OF_EMPTY = {"experiments": 1, "workspaces": 1}
"""What MLflow itself puts into a new database: the defaults."""


def copy_rows(
    old: Connection,
    new: Connection,
    move: Callable[[str], str],
    target: ServerSettings,
) -> dict[str, int]:
    """Copy the rows of all tables, and compare what arrived by number and content.

    Parameters
    ----------
    move
        Turns the URI of a place of artifacts into the new one.

    Returns
    -------
    rows
        Their number, of each table that has any.

    Raises
    ------
    DatabaseError
        If the target refuses a row, or has not what was sent.
    """
    copied = {}
    for name in ROWS_OF_EMPTY:
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
            copied[table.name] = sent.n_rows
        _set_sequence(new, table)
    return copied


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


def count_rows(connection: Connection, table: sa.FromClause) -> int:
    """Return the number of rows of a table."""
    return int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)
