"""Free ports for the servers that tests start."""

import itertools
import os
import socket
from contextlib import ExitStack

_PER_PROCESS, _APART = 400, 10
_turns = itertools.count()


def free_port(n=1):
    """Return the first of so many neighbouring ports that nobody listens at.

    They lie below those that the system gives to connections, one of which may take a port while
    a server restarts; those of processes that run side by side are far apart, and one that was
    given is not given again soon, as clients of an earlier test may still try it.
    """
    start = 20_000 + os.getpid() * 397 % (12_000 - _PER_PROCESS)
    for _ in range(_PER_PROCESS // _APART):
        first = start + _APART * (next(_turns) % (_PER_PROCESS // _APART))
        with ExitStack() as stack:
            try:
                for port in range(first, first + n):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise RuntimeError("no free port")
