"""The database of the server: reach it, or say why not; what is in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from mlflow.store.db.utils import _get_latest_schema_revision
from sqlalchemy.engine import URL, Connection

from deconv.errors import ConfigError, DeconvError
from experiments.server.secrets import DATABASE_PASSWORD, read_secret
from experiments.server.settings import ServerSettings

_SPARE_CONNECTIONS = 10
"""For the process that starts the workers, for backups and for a person with psql."""
_REASONS = (
    ("password authentication failed", f"the password is wrong (see {DATABASE_PASSWORD})"),
    ("no password supplied", f"it wants a password (see {DATABASE_PASSWORD})"),
    ("does not exist", "there is no such database or user"),
    ("too many clients", "all of its connections are in use"),
    ("remaining connection slots", "all of its connections are in use"),
)


class DatabaseError(DeconvError):
    """The database cannot be reached, refuses, or is not as it has to be."""


@dataclass(frozen=True)
class Contents:
    """What a database holds."""

    runs: int
    experiments: int
    registered_models: int
    revision: str | None
    """Of the schema; None before the server has first started."""


def database_url(settings: ServerSettings) -> URL:
    """Return the database with its password, which may come by other ways (peer, .pgpass)."""
    if settings.is_sqlite:
        return settings.url
    # SQLAlchemy's default driver changed from psycopg2 to psycopg in 2.1: name it.
    return settings.url.set(
        drivername="postgresql+psycopg2", password=read_secret(DATABASE_PASSWORD)
    )


@contextmanager
def connected(settings: ServerSettings) -> Iterator[Connection]:
    """Yield a connection, in a transaction that is committed at the end.

    Raises
    ------
    DatabaseError
        If the database cannot be reached or refuses; says why.
    ConfigError
        If an SQLite file is not there, or the driver of PostgreSQL.
    """
    if settings.is_sqlite and not settings.sqlite_file.is_file():
        raise ConfigError("no such database", where=settings.sqlite_file)
    with _engine(settings) as engine:
        try:
            connection = engine.connect()
        except sa.exc.OperationalError as error:
            raise _explained(settings, error) from error
        with connection:
            try:
                with connection.begin():
                    yield connection
            except sa.exc.DBAPIError as error:
                reason = " ".join(str(error.orig).split())
                raise DatabaseError(
                    "the database refuses", where=settings.database, got=reason
                ) from error


@contextmanager
def _engine(settings: ServerSettings) -> Iterator[sa.Engine]:
    timeout = {} if settings.is_sqlite else {"connect_timeout": 10}
    try:
        engine = sa.create_engine(
            database_url(settings), connect_args=timeout, poolclass=sa.pool.NullPool
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed", expected="pip install 'deconv[server]'"
        ) from error
    try:
        yield engine
    finally:
        engine.dispose()


def _explained(settings: ServerSettings, error: sa.exc.OperationalError) -> DatabaseError:
    text = " ".join(str(error.orig).split())
    for part, reason in _REASONS:
        if part in text:
            return DatabaseError("cannot use the database", where=settings.database, got=reason)
    return DatabaseError("cannot reach the database", where=settings.database, got=text)


def check_connections(settings: ServerSettings) -> None:
    """Refuse workers and pools that PostgreSQL's ``max_connections`` cannot serve.

    Raises
    ------
    DatabaseError
        With the numbers.
    """
    with connected(settings) as connection:
        limit, reserved = (
            int(str(connection.scalar(sa.text(f"SHOW {name}"))))
            for name in ("max_connections", "superuser_reserved_connections")
        )
    needed = settings.connections + _SPARE_CONNECTIONS
    if needed > limit - reserved:
        each = settings.pool_size + settings.max_overflow
        raise DatabaseError(
            "PostgreSQL allows too few connections", where=settings.database,
            got=f"max_connections {limit}, {reserved} of them reserved",
            expected=f"{needed + reserved} or more ({settings.workers} worker(s) x 3 pools x "
            f"{each} + {_SPARE_CONNECTIONS} + {reserved}), or fewer workers",
        )  # fmt: skip


def read_contents(settings: ServerSettings) -> Contents:
    """Count what is in the database.

    Raises
    ------
    DatabaseError, ConfigError
        See `connected`.
    """
    with connected(settings) as connection:
        tables = set(sa.inspect(connection).get_table_names())

        def count(table: str) -> int:
            if table not in tables:
                return 0
            return int(str(connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))))

        revision = None
        if "alembic_version" in tables:
            revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return Contents(count("runs"), count("experiments"), count("registered_models"), revision)


def has_user(settings: ServerSettings, name: str) -> bool:
    """Return whether the server knows a user already."""
    with connected(settings) as connection:
        if "users" not in sa.inspect(connection).get_table_names():
            return False
        query = sa.text("SELECT 1 FROM users WHERE username = :name")
        return connection.scalar(query, {"name": name}) is not None


def latest_revision() -> str:
    """Return the schema that the installed MLflow works with."""
    return str(_get_latest_schema_revision())  # type: ignore[no-untyped-call]


def check_revision(settings: ServerSettings, contents: Contents) -> None:
    """Refuse a database whose schema the installed MLflow does not work with.

    Raises
    ------
    DatabaseError
        If it is of another version.
    """
    latest = latest_revision()
    if contents.revision not in (None, latest):
        raise DatabaseError(
            "the database is of another version of MLflow", where=settings.database,
            got=f"schema {contents.revision}",
            expected=f"{latest}: make a backup, then `mlflow db upgrade` (or that MLflow)",
        )  # fmt: skip
