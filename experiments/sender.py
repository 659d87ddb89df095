"""Work for others, done in the background until they take it: the run never waits for them."""

import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from deconv.errors import DeconvError

_FIRST_PAUSE, _LONGEST_PAUSE, _LAST_PAUSE = 0.5, 60.0, 1.0  # seconds


class Follower:
    """A thread that takes a step when there is news, and repeats one that failed.

    Parameters
    ----------
    step
        Does all that is outstanding; raises a `DeconvError` if it is to be tried again. What
        else it raises is told as one: a thread that ends on it would say so to nobody, and do
        nothing for the rest of the run. Pauses between failures double to a minute.
    failed
        Called when steps begin to fail, with the error, and with None when one succeeds again.
    """

    def __init__(
        self, name: str, step: Callable[[], None], failed: Callable[[DeconvError | None], None]
    ) -> None:
        self._step, self._failed = step, failed
        self._change = threading.Condition()
        self._news = self._closing = self._hurry = self._abandoned = self._ended = False
        self._n_steps = 0
        self.error: DeconvError | None = None
        """Why the last step failed, None if it did not."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there is news."""
        with self._change:
            self._news = True
            self._change.notify_all()

    def settle(self, seconds: float) -> None:
        """Wait for the end of the first step, at most so long."""
        with self._change:
            self._change.wait_for(lambda: self._n_steps or self._ended, timeout=seconds)

    def close(self, *, patience: float, limit: float) -> None:
        """Wait until all is done, at most ``limit`` seconds, ``patience`` while steps fail."""
        end, failing_since = time.monotonic() + limit, None
        with self._change:
            self._news = self._closing = self._hurry = True
            self._change.notify_all()
            while not self._ended:
                now = time.monotonic()
                failing_since = (failing_since or now) if self.error is not None else None
                if now > end or (failing_since is not None and now - failing_since > patience):
                    break
                self._change.wait(timeout=0.05)
            self._abandoned = True
            self._change.notify_all()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while self._has_work(pause):
                error = None
                try:
                    self._step()
                except DeconvError as problem:
                    error = problem
                except Exception as problem:  # noqa: BLE001 - told, see `step`
                    error = _unexpected(problem)
                pause = _FIRST_PAUSE if error is None else min(2 * pause, _LONGEST_PAUSE)
                if not self._abandoned and (error is None) != (self.error is None):
                    self._failed(error)
                with self._change:
                    self.error = error
                    self._n_steps += 1
                    self._change.notify_all()
        finally:
            with self._change:
                self._ended = True
                self._change.notify_all()

    def _has_work(self, pause: float) -> bool:
        with self._change:
            if self.error is None:
                self._change.wait_for(lambda: self._news or self._closing)
            elif self._closing and not self._hurry:
                self._change.wait_for(lambda: self._abandoned, timeout=min(pause, _LAST_PAUSE))
            else:  # news does not shorten the pause: a server that is down is not hammered
                self._change.wait_for(lambda: self._hurry, timeout=pause)
            self._hurry = False
            if self._abandoned or (self.error is None and not self._news):
                return False
            self._news = False
            return True


def _unexpected(error: Exception) -> DeconvError:
    """Say what a step raised that nobody thought of, and where: it is to be reported."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
    text = f"unexpected {type(error).__name__}: {error}".splitlines()[0]
    return DeconvError(text, where=where, expected="a later try; please report it")
