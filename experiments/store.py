"""The way to the tracking store: its name, and errors that say what to do about it."""

import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import mlflow
import sqlalchemy as sa
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds, read_mlflow_creds
from mlflow.utils.rest_utils import http_request
from requests import RequestException
from sqlalchemy.exc import SQLAlchemyError

from deconv.errors import DeconvError

_SOON = (5, 30)  # seconds for a connection, and for an answer that means nothing
_NO_SUCH_USER = "no such user, or a wrong password"
_DENIED = {
    "PERMISSION_DENIED": "the user lacks the permission",
    "CUSTOMER_UNAUTHORIZED": _NO_SUCH_USER, "UNAUTHENTICATED": _NO_SUCH_USER,
}  # fmt: skip
_CLOUDS = {"azure", "boto3", "botocore", "google"}  # of artifact stores; each is optional
_PASSING = {
    "INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "INVALID_STATE", "ENDPOINT_NOT_FOUND",
}  # fmt: skip


class TrackingError(DeconvError):
    """The tracking store cannot be reached or refuses; the run's folder has everything."""


class AwayError(TrackingError):
    """The store takes nothing, from anybody or from us; later it may."""


class DeniedError(AwayError):
    """The store does not let this user do it."""


class RefusedError(TrackingError):
    """The store is there and will not take this one thing, however often it is asked."""


@contextmanager
def tracking_errors(what: str, *, expected: str | None = None) -> Iterator[None]:
    """Turn the errors of MLflow, its artifact store and the way there into a `TrackingError`.

    It is a `DeniedError` if the user may not, a `RefusedError` where asking again would not
    help, else an `AwayError`.
    """
    try:
        yield
    except Exception as error:
        if not is_of_the_store(error):
            raise
        reason = first_line(error)
        code = error.error_code if isinstance(error, MlflowException) else "INTERNAL_ERROR"
        raise_denied(error, what)
        kind = AwayError if code in _PASSING else RefusedError
        if isinstance(error, ModuleNotFoundError) and error.name == "psycopg":
            expected = "an address that begins with postgresql+psycopg2:"  # SQLAlchemy's default
        raise kind(what, where=store_name(), got=reason, expected=expected) from error


def is_of_the_store(error: BaseException) -> bool:
    """Whether an error is of MLflow, of its artifact store, or of the way there."""
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    known = (MlflowException, OSError, SQLAlchemyError, ImportError)
    return isinstance(error, known) or bool(modules & _CLOUDS)


def raise_denied(error: BaseException, what: str) -> None:
    """Raise a `DeniedError` if the store did not let the user do this."""
    why = _DENIED.get(error.error_code) if isinstance(error, MlflowException) else None
    if why is not None:
        raise DeniedError(
            f"{what}: {why}", where=store_name(), got=read_mlflow_creds().username or "no name",
            expected="MLFLOW_TRACKING_USERNAME and _PASSWORD of a user who may do this",
        ) from error  # fmt: skip


@contextmanager
def artifact_errors(path: str, uri: str) -> Iterator[None]:
    """Turn the answer of an artifact store that takes no file into a `RefusedError`.

    A store that is read-only, full, away or wrongly set up must not hold up the metrics, in
    whatever library's words it says so; a server that is away is none. A server that ends the
    connection while it passes the file on answers otherwise, at the store's address ``uri``.
    """
    try:
        yield
    except Exception as error:
        if _never_reached(error) and not _answers(uri):
            raise
        reason = first_line(error)
        if not isinstance(error, (MlflowException, OSError)):
            reason = f"{type(error).__name__}: {reason}"
        raise RefusedError(
            "the artifact store did not take the file", where=path, got=reason
        ) from error


def _never_reached(error: BaseException) -> bool:
    """Whether an error came from the way to the store, not from the store.

    A server's answer, even a bad one, is of the store.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RequestException):
            return not (getattr(seen, "response", None) is not None or "responses" in str(seen))
        seen = seen.__cause__ or seen.__context__
    return False


def _answers(uri: str) -> bool:
    try:
        _ask_server(uri)
    except MlflowException:
        return False
    return True


def first_line(error: BaseException) -> str:
    """Return what an error says, without the URLs, SQL statement or body around it."""
    text = str(getattr(error, "orig", None) or error)  # of SQLAlchemy: what the driver said
    line = (text.splitlines() or [type(error).__name__])[0]
    cause = re.search(r"Caused by \w+\((.*)\)\)$", line)
    if cause is None:
        return line
    inner = re.split(r"""[(,] ?['"]""", cause[1])[-1].removesuffix("')")
    return inner.rpartition(": ")[2].strip("'\"")


def open_store(uri: str | None = None) -> MlflowClient:
    """Return a client of a tracking store, by default the current one.

    Raises
    ------
    TrackingError
        If it cannot be opened.
    """
    uri = uri or mlflow.get_tracking_uri()
    with tracking_errors("cannot open the tracking store"):
        _ask_once(uri)
        return MlflowClient(uri)


def require_answer(uri: str | None = None) -> None:
    """Raise an `AwayError` if nobody answers at a store's address, by default the current one.

    It is for what asks by MLflow's own client, which has much patience: with a server, four
    minutes. That is right for one that is restarted amid the work, so this asks but once in a
    process.
    """
    with tracking_errors("cannot open the tracking store"):
        _ask_once(uri or mlflow.get_tracking_uri())


@functools.cache
def _ask_once(uri: str) -> None:
    """Raise the error of a server or database that cannot be reached.

    MLflow asks a database ten times, which takes 100 seconds, and prints each error.
    """
    if uri.startswith(("http://", "https://")):
        _ask_server(uri)
    elif uri.startswith("postgresql"):
        options = {"connect_timeout": 10}
        engine = sa.create_engine(uri, poolclass=sa.NullPool, connect_args=options)
        try:
            engine.connect().close()
        finally:
            engine.dispose()


def _ask_server(uri: str) -> None:
    host = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
    http_request(host, "/health", "GET", max_retries=0, timeout=_SOON)  # type: ignore[no-untyped-call]


def store_name(uri: str | None = None) -> str:
    """Return a store's URI (the current one by default) without a password, with a full path.

    So the store is the same from another working directory or by another user.
    """
    uri = mlflow.get_tracking_uri() if uri is None else uri
    if uri.startswith("sqlite:///"):
        return "sqlite:///" + str(Path(uri.removeprefix("sqlite:///")).absolute())
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def retry_ourselves() -> None:
    """Keep MLflow's client from repeating requests, unless the user set how often.

    It repeats the creation of a run too, which leaves an empty second one.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
