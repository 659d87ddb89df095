"""Settings of the tracking server: a profile of ``mlruns_config/server.yaml`` or of one's own."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from deconv.configuration import Section
from deconv.errors import ConfigError

REQUESTS_AT_ONCE = 40
"""Of a worker: the threads of anyio, in which MLflow serves requests."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServerSettings(Section):
    """A tracking server. Secrets are no settings, see `experiments.server.secrets`."""

    host: str = "127.0.0.1"
    port: int = Field(default=5000, ge=1, le=65535)
    allowed_hosts: tuple[str, ...] = ()
    workers: int = Field(default=1, ge=1)
    pool_size: int = Field(default=10, ge=1)
    max_overflow: int = Field(default=31, ge=1)
    database: str
    artifacts: str
    s3_endpoint: str | None = None
    auth: bool = False
    admin: str = "admin"
    default_permission: Literal["READ", "USE", "EDIT", "MANAGE", "NO_PERMISSIONS"] = "READ"
    state: Path
    start_timeout: float = Field(default=120, gt=0, description="seconds")
    stop_timeout: float = Field(default=30, gt=0, description="seconds")

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            url = make_url(self.database)
        except ArgumentError as error:
            raise ValueError(f"database is no URL: {self.database}") from error
        if url.password is not None:
            raise ValueError(
                "database contains a password; it belongs into DECONV_DATABASE_PASSWORD or a file"
            )
        if url.get_backend_name() not in ("sqlite", "postgresql") or not url.database:
            raise ValueError(
                "database is neither sqlite:///FILE nor postgresql://USER@HOST:PORT/NAME"
            )
        scheme, separator, rest = self.artifacts.partition("://")
        if separator and (scheme != "s3" or not rest.strip("/")):
            raise ValueError(f"artifacts is neither a folder nor s3://BUCKET: {self.artifacts}")
        if "*" in self.allowed_hosts:
            raise ValueError("allowed_hosts has *: any web site could use the server")
        if self.auth and self.is_sqlite:
            raise ValueError("auth needs a PostgreSQL database, in which the users are kept")
        if self.host not in _LOOPBACK and not self.auth:
            raise ValueError(f"host {self.host} is open to the network and auth is false")
        pool = self.pool_size + self.max_overflow
        if pool <= REQUESTS_AT_ONCE:
            raise ValueError(
                f"pool_size + max_overflow is {pool}: a worker serves {REQUESTS_AT_ONCE} requests "
                f"at once, which hold one connection while they take a second, so that "
                f"{REQUESTS_AT_ONCE + 1} are needed for none to be lost"
            )
        return self

    @property
    def url(self) -> URL:
        """The database, without password."""
        return make_url(self.database)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def sqlite_file(self) -> Path:
        """The file of an SQLite database."""
        return Path(str(self.url.database)).absolute()

    @property
    def address(self) -> str:
        """Where clients on this machine reach the server."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def connections(self) -> int:
        """The most connections that all workers may hold: three pools each (see server.yaml)."""
        return self.workers * 3 * (self.pool_size + self.max_overflow)


def load_settings(
    profile: str, file: Path | None = None, overrides: Sequence[str] = ()
) -> ServerSettings:
    """Read a profile and apply ``key=value`` overrides.

    Raises
    ------
    ConfigError
        If the file, the profile, a key or a value is wrong.
    """
    source = resources.files("mlruns_config") / "server.yaml" if file is None else file
    where = "mlruns_config/server.yaml" if file is None else file
    try:
        content = yaml.safe_load(source.read_text())
        profiles = content["profiles"]
        values: dict[str, Any] = dict(profiles[profile])
    except OSError as error:
        raise ConfigError("cannot read the settings", where=where, got=error.strerror) from error
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ConfigError("not a file of settings", where=where, got=error) from error
    except KeyError as error:
        names = ", ".join(content.get("profiles", ())) or "profiles"
        raise ConfigError("no such key", where=where, got=error, expected=names) from error
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError("not an override", got=override, expected="key=value")
        values[key] = yaml.safe_load(value)
    try:
        return ServerSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"{key}: {what}" if key else what, where=f"{where}, {profile}"
        ) from error
