"""Memory of this process on a CPU: how freed blocks are kept, and the peak."""

import ctypes
import math
import re
import resource
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make glibc reuse large freed blocks instead of returning them to the system.

    By default each array above 32 MB is mapped, zeroed page by page and unmapped again, which
    takes half of a training step at 51,089 regions (`deconv benchmark speed`). It holds for
    the whole process; what the process uses at its peak, it keeps.

    Returns
    -------
    Whether the C library took it; others than glibc have no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_THRESHOLD, _LARGEST), (_M_TRIM_THRESHOLD, _LARGEST), (_M_ARENA_MAX, 1))
    taken = [mallopt(name, value) == 1 for name, value in settings]
    return all(taken)


def peak_megabytes() -> float:
    """Return the most memory that this program had resident, in 10^6 bytes.

    On Linux, ``getrusage`` would count the parent process before it started this program.
    """
    found = _status_megabytes("VmHWM", "self")
    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3 if found is None else found
    )


def resident_megabytes(process: int) -> float:
    """Return the memory that a process has resident, in 10^6 bytes; NaN where Linux is not."""
    found = _status_megabytes("VmRSS", str(process))
    return math.nan if found is None else found


def _status_megabytes(name: str, process: str) -> float | None:
    status = Path("/proc", process, "status")
    found = re.search(rf"{name}:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return None if found is None else int(found[1]) * 1.024e-3
