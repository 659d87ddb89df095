"""Secrets: from the environment, or from a file only its owner can read. There are no defaults."""

import os
import stat
from pathlib import Path

from deconv.errors import ConfigError

DATABASE_PASSWORD = "DECONV_DATABASE_PASSWORD"
ADMIN_PASSWORD = "DECONV_ADMIN_PASSWORD"
SECRET_KEY = "DECONV_SECRET_KEY"
USER_PASSWORD = "DECONV_USER_PASSWORD"
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_SHORTEST = {ADMIN_PASSWORD: 12, USER_PASSWORD: 12, SECRET_KEY: 32}


def read_secret(name: str) -> str | None:
    """Return the secret of an environment variable, or of the file that ``NAME_FILE`` names.

    Raises
    ------
    ConfigError
        If the file is missing or others can read it, or if the secret is too short.
    """
    value = os.environ.get(name)
    path = os.environ.get(f"{name}_FILE")
    if not value and path is not None:
        value = _read(Path(path), f"{name}_FILE")
    if not value:
        return None
    if len(value) < _SHORTEST.get(name, 0):
        raise ConfigError(
            f"{name} is too short", got=f"{len(value)} characters",
            expected=f"{_SHORTEST[name]} or more",
        )  # fmt: skip
    return value


def require_secret(name: str, why: str) -> str:
    """Return a secret that must be there.

    Raises
    ------
    ConfigError
        If it is not set.
    """
    value = read_secret(name)
    if value is None:
        raise ConfigError(
            f"{why} is not set", where="environment",
            expected=f"{name}, or {name}_FILE with a file of mode 600",
        )  # fmt: skip
    return value


def _read(path: Path, name: str) -> str:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise ConfigError(
                "others can read the secret", where=path, got=f"mode {mode:o}", expected="mode 600"
            )
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError("cannot read the secret", where=f"{name}={path}", got=error) from error
