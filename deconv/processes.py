"""Tasks for several processes, none of which outlives the one that started them."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from deconv.errors import DeconvError

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    work: Callable[[T], R],
    tasks: Sequence[T],
    n_processes: int,
    advance: Callable[[int, int], object] = lambda n_done, n_tasks: None,
) -> Iterator[R]:
    """Yield what ``work`` makes of each task, in their order; one process is this one.

    ``advance`` is told how many of how many are done.

    Raises
    ------
    DeconvError
        If a process is killed; what ``work`` raises comes as it is. Then the others end.
    """
    if n_processes == 1:
        for n_done, task in enumerate(tasks, start=1):
            yield work(task)
            advance(n_done, len(tasks))
        return
    with _processes(n_processes) as pool:
        futures = [pool.submit(work, task) for task in tasks]
        try:
            for n_done, future in enumerate(as_completed(futures), start=1):
                future.result()
                advance(n_done, len(tasks))
        except BrokenProcessPool as error:
            raise DeconvError(
                "a process that read files was killed, perhaps for lack of memory",
                expected="fewer --jobs",
            ) from error
        yield from (future.result() for future in futures)


@contextmanager
def _processes(n: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool that is ended at once where something goes wrong."""
    # Not forked: a fork copies locks that threads of this process may hold.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _end_with_parent() -> None:
    """End this process when the one that started it does, even by ``kill -9``."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
