"""The training loop."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from deconv.configuration import Section
from deconv.errors import DivergenceError
from deconv.precision import Precision

Batch = TypeVar("Batch")
Metrics = Mapping[str, float]


class TrainingConfig(Section):
    """Length and cadence of a run; ``mixtures_per_epoch`` are drawn anew each epoch.

    ``num_workers`` draw batches ahead; by default one does for a GPU, and none for a CPU, where
    they would take the cores from training. For ``precision`` see `deconv.precision`; for
    ``compile`` see `deconv.posterior.compiled`.
    """

    num_epochs: PositiveInt = 30
    batch_size: PositiveInt = 128
    gradient_accumulation_steps: PositiveInt = 1
    learning_rate: float = Field(2e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    max_grad_norm: float = Field(1.0, gt=0)
    num_workers: int | None = Field(None, ge=0, le=64)
    validation_frequency: PositiveInt = 1
    pure_sample_ratio: float = Field(0.2, ge=0, le=1)
    mixtures_per_epoch: PositiveInt = 12_800
    precision: Precision = "auto"
    compile: bool = False

    def workers_on(self, device: torch.device) -> int:
        """Return the number of threads that draw batches ahead."""
        return int(device.type == "cuda") if self.num_workers is None else self.num_workers

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch, at least one."""
        return max(
            self.mixtures_per_epoch // (self.batch_size * self.gradient_accumulation_steps), 1
        )

    @property
    def n_steps(self) -> int:
        """Optimizer steps in the run."""
        return self.num_epochs * self.steps_per_epoch


@runtime_checkable
class Record(Protocol):
    """Where an epoch's metrics go, durably; see `experiments.tracking`."""

    def log_metrics(self, metrics: Metrics, *, step: int) -> None:
        """Record scalars at an epoch."""


@dataclass(kw_only=True)
class TrainState:
    """All that a run needs to continue as if it had never stopped."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    epoch: int = 0
    best_score: float = float("inf")
    best_epoch: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values only, so that ``weights_only=True`` loads them."""
        rng = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            rng["cuda"] = torch.cuda.get_rng_state()
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "epoch": self.epoch,
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "rng": rng,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned, global torch RNG included."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scheduler.load_state_dict(saved["scheduler"])
        self.epoch = saved["epoch"]
        self.best_score, self.best_epoch = saved["best_score"], saved["best_epoch"]
        torch.set_rng_state(saved["rng"]["cpu"].cpu())
        if torch.cuda.is_available() and "cuda" in saved["rng"]:
            torch.cuda.set_rng_state(saved["rng"]["cuda"].cpu())


@dataclass
class MetricSums:
    """Sums of scalar tensors on their device, read once an epoch."""

    sums: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    n: int = 0

    def add(self, values: Mapping[str, Float[Tensor, ""]]) -> None:
        """Add one batch's values."""
        self.n += 1
        for name, value in values.items():
            held = self.sums.get(name)
            self.sums[name] = value.detach() if held is None else held + value.detach()

    def means(self) -> dict[str, float]:
        """Return the mean of each value over the batches."""
        return {name: float(total) / self.n for name, total in self.sums.items()}


def train(
    state: TrainState,
    batches: Callable[[int, int], Iterable[Batch]],
    loss_fn: Callable[[nn.Module, Batch], dict[str, Tensor]],
    *,
    config: TrainingConfig,
    validate: Callable[[nn.Module], Metrics],
    score: str,
    record: Record,
    save: Callable[[TrainState, bool], None],
    advance: Callable[[], None] = lambda: None,
    over_processes: Callable[[dict[str, float]], dict[str, float]] = lambda metrics: metrics,
) -> None:
    """Train until ``config.num_epochs``, starting from wherever ``state`` is.

    Parameters
    ----------
    batches
        ``batches(first, stop)`` yields batches by index. A batch must depend on its index
        alone, so that a resumed run sees the batches it would have seen.
    loss_fn
        Returns ``loss`` to descend and any other scalars to record.
    validate
        Returns metrics; ``score`` names the one whose minimum is the best epoch.
    record, save
        Called at the end of each epoch, in this order: an epoch is recorded before it
        counts as done. ``save`` is told whether the epoch is the best so far.
    advance
        Called after each optimizer step, for a progress bar.
    over_processes
        Averages the training metrics over parallel processes.

    Raises
    ------
    DivergenceError
        If a gradient norm of an epoch is not finite; the last save is untouched.
    """
    parameters = list(state.model.parameters())
    n_batches = config.steps_per_epoch * config.gradient_accumulation_steps
    state.model.train()
    while state.epoch < config.num_epochs:
        sums, norms = MetricSums(), MetricSums()
        first = state.epoch * n_batches
        for index, batch in enumerate(batches(first, first + n_batches), start=1):
            values = loss_fn(state.model, batch)
            (values["loss"] / config.gradient_accumulation_steps).backward()
            sums.add(values)
            if index % config.gradient_accumulation_steps:
                continue
            norms.add({"gradient_norm": clip_grad_norm_(parameters, config.max_grad_norm)})
            state.optimizer.step()
            state.optimizer.zero_grad()
            state.scheduler.step()
            advance()

        means = over_processes(sums.means() | norms.means())
        metrics = {f"train/{name}": value for name, value in means.items()}
        if not math.isfinite(metrics["train/gradient_norm"]):
            raise DivergenceError(
                "the gradient is not finite",
                where=f"epoch {state.epoch + 1}",
                expected="a lower training.learning_rate, or data without extremes",
            )
        state.epoch += 1
        metrics["train/learning_rate"] = float(state.scheduler.get_last_lr()[0])
        is_best = False
        if state.epoch % config.validation_frequency == 0 or state.epoch == config.num_epochs:
            metrics |= validate(state.model)
            is_best = metrics[score] < state.best_score
            if is_best:
                state.best_score, state.best_epoch = metrics[score], state.epoch
        record.log_metrics(metrics, step=state.epoch)
        save(state, is_best)
