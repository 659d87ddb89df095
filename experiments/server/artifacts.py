"""Where artifacts lie: a folder or an S3 bucket, seen alike."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlparse

from deconv.errors import ConfigError, DeconvError
from deconv.files import replacing
from experiments.server.secrets import S3_KEYS, read_secret
from experiments.server.settings import ServerSettings

PROXIED = "mlflow-artifacts:"
_STAGED = ".artifact.uploading."  # what MLflow is still receiving


class ArtifactError(DeconvError):
    """The store of artifacts cannot be reached, refuses, or is not as it has to be."""


class ArtifactStore(Protocol):
    """Files by name, relative to a root."""

    root: str

    def check(self) -> None:
        """Raise an ArtifactError if the store cannot be used."""

    def names(self, prefix: str = "") -> Iterator[str]:
        """Yield the names below a prefix (a folder's name)."""

    def has(self, name: str) -> bool:
        """Return whether there is such a file."""

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to ``path``."""

    def put(self, path: Path, name: str) -> None:
        """Copy ``path`` to a name; whole or not at all."""

    def delete(self, name: str) -> None:
        """Delete a file."""


class Folder:
    """Artifacts in a local folder."""

    def __init__(self, root: Path) -> None:
        self.root = str(root.absolute())
        self._path = root.absolute()

    def check(self) -> None:
        """See `ArtifactStore`; the server makes the folder."""
        if self._path.exists() and not self._path.is_dir():
            raise ArtifactError("not a folder", where=self._path)

    def names(self, prefix: str = "") -> Iterator[str]:
        """See `ArtifactStore`."""
        for path in sorted((self._path / prefix).rglob("*")):
            if path.is_file() and not path.name.startswith(_STAGED):
                yield path.relative_to(self._path).as_posix()

    def has(self, name: str) -> bool:
        """See `ArtifactStore`."""
        return (self._path / name).is_file()

    def fetch(self, name: str, path: Path) -> None:
        """See `ArtifactStore`."""
        with self._explained("copy", name):
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._path / name, path)

    def put(self, path: Path, name: str) -> None:
        """See `ArtifactStore`."""
        with self._explained("write", name), replacing(self._path / name) as temporary:
            shutil.copyfile(path, temporary)

    def delete(self, name: str) -> None:
        """See `ArtifactStore`; folders that get empty go too."""
        path = self._path / name
        with self._explained("delete", name):
            path.unlink(missing_ok=True)
            while path.parent != self._path and not any(path.parent.iterdir()):
                path = path.parent
                path.rmdir()

    @contextmanager
    def _explained(self, what: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArtifactError(
                f"cannot {what} an artifact", where=self._path / name, got=error
            ) from error


class Bucket:
    """Artifacts in an S3 bucket, below a prefix."""

    def __init__(self, uri: str, endpoint: str | None) -> None:
        self.root = uri.rstrip("/")
        self._bucket, _, prefix = self.root.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = _s3_client(endpoint)

    def check(self) -> None:
        """See `ArtifactStore`."""
        with self._explained():
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)

    def names(self, prefix: str = "") -> Iterator[str]:
        """See `ArtifactStore`."""
        below = f"{self._prefix}{prefix.rstrip('/')}/" if prefix else self._prefix
        with self._explained():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=below
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    if not entry["Key"].endswith("/"):
                        yield str(entry["Key"]).removeprefix(self._prefix)

    def has(self, name: str) -> bool:
        """See `ArtifactStore`."""
        key = self._prefix + name
        with self._explained():  # a HEAD of what is not there cannot be told from a refusal
            found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
        return any(entry["Key"] == key for entry in found.get("Contents", ()))

    def fetch(self, name: str, path: Path) -> None:
        """See `ArtifactStore`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self._client.download_file(self._bucket, self._prefix + name, str(path))

    def put(self, path: Path, name: str) -> None:
        """See `ArtifactStore`."""
        with self._explained():
            self._client.upload_file(str(path), self._bucket, self._prefix + name)

    def delete(self, name: str) -> None:
        """See `ArtifactStore`."""
        with self._explained():
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            wrong_keys = code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied")
            hint = f" (see {' and '.join(S3_KEYS)})" if wrong_keys else ""
            raise ArtifactError(
                "S3 refuses", where=self.root, got=f"{code or error}{hint}"
            ) from error
        except (BotoCoreError, Boto3Error) as error:
            raise ArtifactError("cannot use S3", where=self.root, got=error) from error


def _s3_client(endpoint: str | None) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed", expected="pip install 'deconv[server]'"
        ) from error
    key, secret = (read_secret(name) for name in S3_KEYS)
    # A bucket that does not answer is reported in seconds, not after boto's minutes.
    config = Config(connect_timeout=5, retries={"max_attempts": 2})
    return boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret,
        config=config,
    )  # fmt: skip


def open_artifacts(settings: ServerSettings) -> ArtifactStore:
    """Return the store that the server writes to."""
    if settings.artifacts.startswith("s3://"):
        return Bucket(settings.artifacts, settings.s3_endpoint)
    return Folder(Path(settings.artifacts))


def locate(uri: str, settings: ServerSettings) -> tuple[ArtifactStore, str]:
    """Return the store of an artifact URI and the name in it.

    Raises
    ------
    ArtifactError
        If it is neither the server's nor a local folder.
    """
    parsed = urlparse(uri)
    if uri.startswith(PROXIED):
        return open_artifacts(settings), unquote(parsed.path).strip("/")
    if parsed.scheme in ("", "file"):
        path = Path(unquote(parsed.path) if parsed.scheme else uri)
        return Folder(path.parent), path.name
    raise ArtifactError(
        "artifacts of another store", got=uri, expected=f"{PROXIED}/... or a folder"
    )
