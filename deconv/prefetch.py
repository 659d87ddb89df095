"""Batches drawn ahead of their use, in background threads."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(make: Callable[[int], Item], first: int, stop: int, n_workers: int) -> Iterator[Item]:
    """Yield ``make(i)`` for i from ``first`` to ``stop``, in order.

    With workers, that many items are made ahead; as an item depends on its index
    alone, the result does not depend on their number.
    """
    if n_workers == 0:
        yield from map(make, range(first, stop))
        return
    pool, waiting = ThreadPoolExecutor(n_workers), deque[Future[Item]]()
    try:
        for index in range(first, stop):
            waiting.append(pool.submit(make, index))
            if len(waiting) > n_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
