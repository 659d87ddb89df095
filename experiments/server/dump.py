"""The database as one file, at one moment, while the server writes on; and back."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from deconv.errors import ConfigError
from deconv.files import replacing
from experiments.server.database import DatabaseError, connected
from experiments.server.secrets import DATABASE_PASSWORD, read_secret
from experiments.server.settings import ServerSettings


@contextmanager
def dumped(settings: ServerSettings, file: Path) -> Iterator[Connection]:
    """Write the database to ``file`` and yield a connection that sees the same moment.

    SQLite's own backup, or ``pg_dump --format=custom``.

    Raises
    ------
    DatabaseError, ConfigError
        If the database cannot be read, or ``pg_dump`` is missing or fails.
    """
    if settings.is_sqlite:
        copy_sqlite(settings.sqlite_file, file)
        copy = settings.model_copy(update={"database": f"sqlite:///{file}"})
        with connected(copy) as connection:
            yield connection
        return
    with connected(settings) as connection:
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        moment = connection.scalar(sa.text("SELECT pg_export_snapshot()"))
        _run(settings, "pg_dump", [f"--snapshot={moment}", "--format=custom", f"--file={file}"])
        yield connection


def load(settings: ServerSettings, file: Path) -> None:
    """Put a dump in the place of the database; all of it or nothing.

    Raises
    ------
    DatabaseError, ConfigError
        If the database refuses, or ``pg_restore`` is missing.
    """
    if settings.is_sqlite:
        with replacing(settings.sqlite_file) as temporary:
            shutil.copyfile(file, temporary)
        for suffix in ("-wal", "-shm"):  # of the file that was there
            settings.sqlite_file.with_name(settings.sqlite_file.name + suffix).unlink(
                missing_ok=True
            )
        return
    options = ["--clean", "--if-exists", "--single-transaction", "--exit-on-error"]
    _run(settings, "pg_restore", [*options, str(file)])


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database that others may be writing to, as it is at one moment.

    Raises
    ------
    DatabaseError
        If it is no SQLite database, or damaged.
    ConfigError
        If it is not there.
    """
    if not source.is_file():
        raise ConfigError("no such database", where=source)
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new)
            (found,) = new.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.DatabaseError as error:
        raise DatabaseError("cannot copy the database", where=source, got=error) from error
    if found != "ok":
        raise DatabaseError("the database is damaged", where=source, got=found)


def _run(settings: ServerSettings, program: str, options: Sequence[str]) -> None:
    # The password goes by the environment: command lines can be read by everybody.
    environment = dict(os.environ)
    password = read_secret(DATABASE_PASSWORD)
    if password is not None:
        environment["PGPASSWORD"] = password
    uri = settings.url.set(drivername="postgresql").render_as_string()
    command = [program, "--no-owner", "--no-privileges", f"--dbname={uri}", *options]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ConfigError(
            f"{program} is not installed", expected="PostgreSQL's client programs"
        ) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise DatabaseError(f"{program} failed", where=settings.database, got=lines[0])
