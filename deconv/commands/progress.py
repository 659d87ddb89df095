"""What commands that read many files share: a bar, and an end without leftovers."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def reading() -> Iterator[Callable[[int, int], None]]:
    """Show a bar; yield what moves it to so many of so many files.

    A process that is told to end meanwhile (SIGTERM) removes what it has not finished.
    """
    from rich.console import Console
    from rich.progress import Progress

    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        console = Console(stderr=True)
        with Progress(
            console=console, transient=True, disable=not console.is_terminal
        ) as progress:
            task = progress.add_task("reading", total=None)
            yield lambda n_done, n_files: progress.update(task, completed=n_done, total=n_files)
    finally:
        signal.signal(signal.SIGTERM, before)
