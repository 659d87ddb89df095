"""Start the server: check what it needs, give it what it may know, wait until it answers."""

import os
import signal
import subprocess
import sys
import time
import uuid
from importlib import resources
from pathlib import Path
from types import FrameType

import mlflow

from experiments.server.artifacts import open_artifacts
from experiments.server.database import (
    check_connections,
    check_revision,
    database_url,
    has_user,
    read_contents,
)
from experiments.server.process import (
    MARK,
    ServerError,
    Started,
    check_port,
    end,
    is_healthy,
    locked,
    running,
    write_record,
)
from experiments.server.secrets import (
    ADMIN_PASSWORD,
    DATABASE_PASSWORD,
    S3_KEYS,
    SECRET_KEY,
    USER_PASSWORD,
    read_secret,
    require_secret,
)
from experiments.server.settings import ServerSettings

_LINES_OF_LOG = 15


def start(settings: ServerSettings, *, detach: bool) -> tuple[Started, subprocess.Popen[bytes]]:
    """Start the server and return once it answers.

    Raises
    ------
    ServerError
        If one runs already, the port is taken, or it ends before it answers.
    DatabaseError, ArtifactError, ConfigError
        If something it needs is not there.
    """
    with locked(settings):
        found = running(settings)
        if found is not None:
            raise ServerError(
                f"the server runs already, at {found.address}", where=settings.state,
                got=f"process {found.pid}", expected="deconv server stop first",
            )  # fmt: skip
        check_port(settings)
        _check_needs(settings)
        mark = uuid.uuid4().hex
        log = settings.state / "server.log"
        environment = {**_without_secrets(), **_environment(settings), MARK: mark}
        with (log if detach else Path(os.devnull)).open("ab") as output:
            begin = output.tell()
            process = subprocess.Popen(
                _command(settings), env=environment, stdin=subprocess.DEVNULL,
                stdout=output if detach else None, stderr=output if detach else None,
                start_new_session=True,
            )  # fmt: skip
        started = Started(process.pid, mark, settings.address, mlflow.__version__)
        write_record(settings, started)
        try:
            _wait(settings, process)
        except BaseException as error:
            end(started, timeout=5)
            process.wait()
            if isinstance(error, ServerError) and detach:
                raise ServerError(f"{error}\n{_last_lines(log, begin)}") from error
            raise
    return started, process


def stay(settings: ServerSettings, started: Started, process: subprocess.Popen[bytes]) -> int:
    """Wait in the foreground until the server ends; Ctrl-C and SIGTERM end it."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        process.send_signal(signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    status = process.wait()
    end(started, settings.stop_timeout)
    return 0 if asked else status


def _check_needs(settings: ServerSettings) -> None:
    if settings.is_sqlite:
        if settings.sqlite_file.is_file():
            check_revision(settings, read_contents(settings))
    else:
        check_revision(settings, read_contents(settings))
        check_connections(settings)
    open_artifacts(settings).check()


def _command(settings: ServerSettings) -> list[str]:
    """Return the command line, which everybody on the machine can read: no secrets in it."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", settings.host]
    command += ["--port", str(settings.port), "--workers", str(settings.workers)]
    command += ["--serve-artifacts", "--artifacts-destination", open_artifacts(settings).root]
    if settings.allowed_hosts:
        command += ["--allowed-hosts", ",".join(settings.allowed_hosts)]
    if settings.auth:
        command += ["--app-name", "basic-auth"]
    return command


def _environment(settings: ServerSettings) -> dict[str, str]:
    url = database_url(settings)
    if settings.is_sqlite:
        url = url.set(database=str(settings.sqlite_file))
    uri = url.render_as_string(hide_password=False)
    values: dict[str, str | None] = {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(settings.pool_size),
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": str(settings.max_overflow),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Jobs are for judges of language models; they would add processes and connections.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_S3_ENDPOINT_URL": settings.s3_endpoint,
        **{name: read_secret(name) for name in S3_KEYS},
    }
    if settings.auth:
        values["MLFLOW_FLASK_SERVER_SECRET_KEY"] = require_secret(
            SECRET_KEY, "the key of sessions"
        )
        values["MLFLOW_AUTH_CONFIG_PATH"] = str(_write_auth_settings(settings, uri))
        password = read_secret(ADMIN_PASSWORD)
        if password is None and not has_user(settings, settings.admin):
            password = require_secret(ADMIN_PASSWORD, f"the password of the new {settings.admin}")
        values["MLFLOW_AUTH_ADMIN_PASSWORD"] = password
    return {key: value for key, value in values.items() if value is not None}


def _without_secrets() -> dict[str, str]:
    """Return this environment without what the server gets under another name or not at all."""
    names = (ADMIN_PASSWORD, DATABASE_PASSWORD, SECRET_KEY, USER_PASSWORD)
    hidden = {*names, *(f"{name}_FILE" for name in (*names, *S3_KEYS))}
    return {
        key: value
        for key, value in os.environ.items()
        if key not in hidden and key not in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    }


def _write_auth_settings(settings: ServerSettings, uri: str) -> Path:
    template = (resources.files("mlruns_config") / "basic_auth.ini").read_text()
    content = template.format(
        default_permission=settings.default_permission,
        database_uri=uri.replace("%", "%%"),  # configparser's own sign
        admin=settings.admin,
    )
    path = settings.state.absolute() / "basic_auth.ini"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    return path


def _wait(settings: ServerSettings, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + settings.start_timeout
    while not is_healthy(settings.address):
        if process.poll() is not None:
            raise ServerError("the server ended before it answered", where=settings.address)
        if time.monotonic() > deadline:
            raise ServerError(
                f"the server does not answer after {settings.start_timeout:g} s",
                where=settings.address,
            )
        time.sleep(0.2)


def _last_lines(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_LINES_OF_LOG:]) or f"{log} has no word of it"
