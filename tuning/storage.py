"""Where a study is kept, safe for many workers, and the lock that makes their claims atomic."""

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from deconv.errors import DeconvError

JOURNAL = "journal.log"
Answer = TypeVar("Answer")


class StorageError(DeconvError):
    """The study's storage is away."""


class Mutex(Protocol):
    """Keeps all other workers of a study out for a moment, on whatever machine they are."""

    def __call__(self) -> AbstractContextManager[None]:
        """Hold it for a block."""


class FileMutex:
    """A lock file, for a shared disk; that of a holder who died is broken after 30 s."""

    def __init__(self, path: Path) -> None:
        self._lock = JournalFileOpenLock(str(path))

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold it for a block."""
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()


class PostgresMutex:
    """An advisory lock of the database, which ends with the connection of a holder who died."""

    def __init__(self, engine: Engine, study: str) -> None:
        self._engine, self._key = engine, zlib.crc32(study.encode())

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold it for a block."""
        with self._engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self._key})
            yield


def patiently(call: Callable[[], Answer], seconds: float = 60.0) -> Answer:
    """Ask a storage again while it is away, for instance because its database restarts.

    Raises
    ------
    StorageInternalError, SQLAlchemyError
        If it is away for so long.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except (StorageInternalError, SQLAlchemyError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def open_storage(storage: str, folder: Path, study: str) -> tuple[BaseStorage, Mutex]:
    """Open a study's storage.

    Parameters
    ----------
    storage
        ``journal``, or a PostgreSQL URL.
    folder
        Of the study.

    Raises
    ------
    StorageError
        If the database cannot be reached.
    """
    if storage == "journal":
        path = str(folder.absolute() / JOURNAL)
        backend = JournalFileBackend(path, JournalFileOpenLock(path))
        return JournalStorage(backend), FileMutex(folder.absolute() / "claims")
    url = storage.replace("postgresql://", "postgresql+psycopg2://", 1)
    try:
        # A connection may have died since it was used last: a database that restarts.
        engine = create_engine(url, pool_size=1, max_overflow=2, pool_pre_ping=True)
        with engine.begin() as connection:  # tables are made by one worker at a time
            connection.execute(text("SELECT pg_advisory_xact_lock(0)"))
            opened = RDBStorage(url, engine_kwargs={"pool_size": 2, "pool_pre_ping": True})
    except ImportError as error:
        raise StorageError(
            "the driver of PostgreSQL is not installed", expected="pip install psycopg2-binary"
        ) from error
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        raise StorageError("cannot open the study", where=public(storage), got=reason) from error
    return opened, PostgresMutex(engine, study)


def public(storage: str) -> str:
    """Return the storage without a password."""
    return storage if storage == "journal" else make_url(storage).render_as_string(True)
