"""Who holds a trial or a lease: a person, and a process by a name that tells if it still runs."""

import getpass
import os
import socket
from pathlib import Path


def process_name(number: int | None = None) -> str:
    """Return machine, number and start of a process (this one by default).

    Without a start if it is not running.
    """
    number = os.getpid() if number is None else number
    try:
        # The name in parentheses may hold spaces; the start is the 20th word after it.
        words = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"{_machine()}/{number}"
    gone = words[0] in ("Z", "X")  # dead, and its parent has not asked how it ended
    return f"{_machine()}/{number}" if gone else f"{_machine()}/{number}/{words[19]}"


def person_name() -> str:
    """Return user and machine, for the record."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container whose user has no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def is_gone(name: str) -> bool:
    """Whether a process of this machine is no more; of another machine nobody knows."""
    machine, _, rest = name.rpartition(":")
    if f"{machine}:{rest.partition('/')[0]}" != _machine():
        return False
    return process_name(int(rest.split("/")[1])) != name


def _machine() -> str:
    """Return what tells this machine, as booted now, and its process numbers from others."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    booted = boot.read_text().strip()[:8] if boot.exists() else "?"
    space = Path("/proc/self/ns/pid")
    numbers = str(space.readlink()).strip("pid:[]") if space.exists() else "?"
    return f"{socket.gethostname()}:{booted}-{numbers}"
