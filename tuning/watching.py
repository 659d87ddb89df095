"""A study shown live, or told line by line."""

import time
from collections.abc import Callable
from contextlib import suppress

from optuna.exceptions import StorageInternalError
from rich.console import Console
from rich.live import Live
from sqlalchemy.exc import SQLAlchemyError

from tuning.status import status_table, study_status
from tuning.storage import patiently
from tuning.study import FINISHED, Study

_EVERY = 2.0  # seconds between two looks at the study


def watch(study: Study, console: Console) -> None:
    """Show a study until it is finished."""
    with Live(console=console, refresh_per_second=2) as live:
        while True:
            status = patiently(lambda: study_status(study))
            live.update(status_table(status, n_rows=max(console.height - 6, 5)))
            if patiently(study.is_finished):
                return
            time.sleep(_EVERY)


class Teller:
    """Prints a line for each trial that ends."""

    def __init__(self, study: Study, console: Console) -> None:
        self._study, self._console = study, console
        self._told = {t.number for t in study.trials() if t.state in FINISHED}

    def __call__(self) -> None:
        """Print what is new."""
        for row in study_status(self._study).rows:
            if row.number in self._told or row.state in ("working", "waiting"):
                continue
            self._told.add(row.number)
            values = "" if row.values is None else " ".join(f"{v:.5g}" for v in row.values)
            params = " ".join(f"{k}={v:.3g}" for k, v in row.params.items())
            line = f"trial {row.number} {row.state} {values} {params} {row.note}"
            self._console.print(" ".join(line.split()), highlight=False, soft_wrap=True)


def every(what: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls another one now and then."""
    due = 0.0

    def call() -> None:
        nonlocal due
        if time.monotonic() >= due:
            # What is shown can wait for a database that restarts.
            with suppress(StorageInternalError, SQLAlchemyError):
                what()
            due = time.monotonic() + _EVERY

    return call
