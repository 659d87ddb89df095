"""Compiled loops over the rows of tensors, in threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


def over_rows(loop: Callable[..., None], n_rows: int, *arguments: Any) -> None:
    """Call ``loop(first, stop, *arguments)`` for all rows, in as many threads as torch has.

    Tensors become the arrays that share their memory.
    """
    n_threads = max(min(torch.get_num_threads(), n_rows), 1)
    ends = [n_rows * i // n_threads for i in range(n_threads + 1)]
    arrays = [x.numpy() if isinstance(x, Tensor) else x for x in arguments]
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(lambda first, stop: loop(first, stop, *arrays), ends[:-1], ends[1:]))
