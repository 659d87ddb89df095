"""Files that are either whole or absent: written under a temporary name, then renamed."""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deconv.errors import DeconvError, InputError

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place if the block succeeds.

    The data reach the disk before the rename, so a power cut leaves the old file or
    the new one. The temporary name keeps the suffixes, by which writers pick a format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path``, which must not exist, on success."""
    if path.exists():
        raise InputError("the folder is there already", where=path, expected="a new name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    temporary.mkdir()
    try:
        yield temporary
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def disk_errors(where: object, expected: str) -> Iterator[None]:
    """Turn the errors of a full or failing disk into a `DeconvError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise DeconvError(
            "the disk does not take the files", where=where, got=error.strerror, expected=expected
        ) from error


def require_file(path: Path) -> None:
    """Refuse a path that is not a file with content.

    Raises
    ------
    InputError
        If it does not exist, is a folder or is empty.
    """
    if not path.exists():
        raise InputError("no such file", where=path)
    if not path.is_file():
        raise InputError("not a file", where=path)
    if not path.stat().st_size:
        raise InputError("the file is empty", where=path)


def require_page_name(path: Path) -> None:
    """Refuse a name that is not of an .html file, before the work is done; make its folder.

    Raises
    ------
    InputError
        If it has another suffix, is a folder, or its folder takes no files.
    """
    if path.suffix != ".html" or path.is_dir():
        raise InputError("not the name of a page", where=path, expected="a file .html")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        takes_files, reason = os.access(path.parent, os.W_OK | os.X_OK), "no leave to write there"
    except OSError as error:
        takes_files, reason = False, str(error)
    if not takes_files:
        raise InputError(
            "no page can be written here", where=path, got=reason, expected="another folder"
        )


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
