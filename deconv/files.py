"""Files that are either whole or absent: written under a temporary name, then renamed."""

import errno
import hashlib
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deconv.errors import DeconvError, InputError

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}
_PATH = {
    errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT,
    errno.ENAMETOOLONG, errno.ELOOP,
}  # fmt: skip
_KEPT = 60  # letters of a name that a temporary one ends with, so that it is short enough


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place if the block succeeds.

    The data reach the disk before the rename, so a power cut leaves the old file or
    the new one. The temporary name keeps the suffixes, by which writers pick a format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name[-_KEPT:]}")
    try:
        temporary.touch()  # not all writers say which path they cannot write
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)
        raise
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
    """Turn the errors of a full or failing disk, or of a path, into a `DeconvError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _PATH and error.filename is not None:
            raise InputError(
                "the path cannot be read or written", where=os.fsdecode(error.filename),
                got=error.strerror,
            ) from error  # fmt: skip
        if error.errno not in _DISK:
            raise
        raise DeconvError(
            "the disk does not take the files", where=where, got=error.strerror, expected=expected
        ) from error


def require_file(path: Path) -> None:
    """Refuse a path that is not a file with content which can be read.

    Raises
    ------
    InputError
        If it does not exist, is a folder, is empty, or may not be read.
    """
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError("no such file", where=path) from error
    except OSError as error:
        raise InputError("the file cannot be read", where=path, got=error.strerror) from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError("not a file", where=path)
    if not status.st_size:
        raise InputError("the file is empty", where=path)


def require_place(path: Path) -> None:
    """Refuse a path that no file can be written under, before the work is done.

    Its folder need not be there yet.

    Raises
    ------
    InputError
        If it is a folder, its name is too long, or its folder can be neither made nor written.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with suppress(FileNotFoundError):
            path.stat()
        folder = next(p for p in path.absolute().parents if p.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            "no file can be written here", where=path, got=error.strerror,
            expected="the name of a file, in a folder that can be written",
        ) from error  # fmt: skip


def require_page_name(path: Path) -> None:
    """Refuse a name that is not of an .html file, before the work is done.

    Raises
    ------
    InputError
        If it has another suffix, or see `require_place`.
    """
    if path.suffix != ".html":
        raise InputError("not the name of a page", where=path, expected="a file .html")
    require_place(path)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
