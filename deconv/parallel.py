"""Data parallel training: processes started by ``torchrun``, each with a share of the batch.

All processes draw the same seeds, weights and dropout masks; each draws the reads of its own
rows of a batch only, and gradients are averaged (DistributedDataParallel). The result is
that of one process up to rounding, dropout masks aside.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deconv.errors import ConfigError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Group:
    """The processes of a run; by default this one alone."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks to the tracking store."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """Return this process's rows of a batch.

        Raises
        ------
        ConfigError
            If the batch cannot be shared evenly.
        """
        if self.size == 1:
            return slice(0, batch_size)
        if batch_size % self.size:
            raise ConfigError(
                "the batch cannot be shared evenly",
                where="training.batch_size",
                got=batch_size,
                expected=f"a multiple of {self.size}, the number of processes",
            )
        share = batch_size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model to call in training; its gradients are averaged over processes."""
        return model if self.size == 1 else DistributedDataParallel(model)

    def mean(self, metrics: dict[str, float]) -> dict[str, float]:
        """Return the mean of each metric over the processes."""
        if self.size == 1:
            return metrics
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        values = torch.tensor(list(metrics.values()), dtype=torch.float32, device=device)
        dist.all_reduce(values)
        return dict(zip(metrics, (values / self.size).tolist(), strict=True))

    def from_first(self, value: Value) -> Value:
        """Return the first process's value in all of them."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Join the processes that ``torchrun`` started, if it did."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Group(dist.get_rank(), size, int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()
