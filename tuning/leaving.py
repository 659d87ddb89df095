"""How a worker is asked to leave its trial: by a signal, the study, or a lost lease."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tuning.claims import Claim


class LeftError(KeyboardInterrupt):
    """The worker is to leave; its trial can go on elsewhere."""


class Leave:
    """Whether and why the worker is to leave: asked by a signal, the study, or a lost lease."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._event = threading.Event()
        self.claim: Claim | None = None

    def ask(self, reason: str) -> None:
        """Ask it to leave, at the next step."""
        self.reason = self.reason or reason
        self._event.set()

    def check(self) -> None:
        """Leave if it was asked, or if the lease may have run out.

        Raises
        ------
        LeftError
            If so.
        """
        if self.reason is not None:
            raise LeftError(self.reason)
        if self.claim is not None and time.monotonic() > self.claim.until:
            raise LeftError("the lease ran out")  # of this trial; there may be others

    def sleep(self, seconds: float) -> None:
        """Wait, but not when asked to leave."""
        self._event.wait(seconds)


@contextmanager
def signals(leave: Leave) -> Iterator[None]:
    """Turn the first signal into a stop between two steps; a second one stops at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        if leave.reason is not None and number == signal.SIGINT:
            raise LeftError(leave.reason)
        leave.ask(signal.Signals(number).name)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
