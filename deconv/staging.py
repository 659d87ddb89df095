"""Folders for what is not finished yet, which do not outlive the work.

A process that is killed (``kill -9``, a power cut) leaves its folder behind; the next that
works in the same place removes it. Which folders are in use is told by a lock on a file in
each: the system drops it with the process, on whatever machine that ran.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PREFIX, _LOCK = ".deconv-unfinished-", "lock"


@contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """Yield a new hidden folder in ``parent``, which is made if need be, and remove it after."""
    parent.mkdir(parents=True, exist_ok=True)
    _remove_left(parent)
    folder, lock = _create(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _create(parent: Path) -> tuple[Path, IO[str]]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        try:
            lock = (folder / _LOCK).open("a")
        except FileNotFoundError:  # another process took it for one that was left
            continue
        _take(lock, wait=True)
        if _is_of(folder, lock):
            return folder, lock
        lock.close()


def _take(lock: IO[str], *, wait: bool = False) -> bool:
    """Lock; where the file system has no locks, no process gets one, and no folder is removed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _is_of(folder: Path, lock: IO[str]) -> bool:
    """Whether a lock is still the folder's: another process may have removed and remade it."""
    try:
        return os.path.samestat((folder / _LOCK).stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False


def _remove_left(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            lock = (folder / _LOCK).open("a")
        except OSError:  # gone by now, or somebody else's
            continue
        with lock:
            if _take(lock) and _is_of(folder, lock):
                shutil.rmtree(folder, ignore_errors=True)
