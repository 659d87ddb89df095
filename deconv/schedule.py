"""Optimizer and learning-rate schedule, counted in optimizer steps."""

import math
from functools import partial
from typing import Literal

from pydantic import Field
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from deconv.configuration import Section


class OptimizerConfig(Section):
    """AdamW (Loshchilov & Hutter 2019); its rate and decay are in ``training``."""

    name: Literal["adamw"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)


class SchedulerConfig(Section):
    """Linear warm-up, then half a cosine down to ``min_lr_ratio`` of the rate."""

    name: Literal["cosine"] = "cosine"
    min_lr_ratio: float = Field(0.0, ge=0, le=1)


def make_optimizer(
    model: nn.Module, config: OptimizerConfig, *, learning_rate: float, weight_decay: float
) -> AdamW:
    """Return AdamW that decays the learned matrices only.

    Biases, norms and the scale of the posterior's log odds are not drawn to 0.
    """
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=learning_rate, betas=config.betas, eps=config.eps, fused=True)


def make_scheduler(
    optimizer: Optimizer, config: SchedulerConfig, *, n_steps: int, warmup_ratio: float
) -> LambdaLR:
    """Return the schedule over ``n_steps`` optimizer steps, warm-up included."""
    n_warmup = round(warmup_ratio * n_steps)
    return LambdaLR(
        optimizer,
        partial(rate_at, n_steps=n_steps, n_warmup=n_warmup, floor=config.min_lr_ratio),
    )


def rate_at(step: int, *, n_steps: int, n_warmup: int, floor: float) -> float:
    """Return the learning rate of an optimizer step, relative to the peak."""
    if step < n_warmup:
        return (step + 1) / n_warmup
    progress = (step - n_warmup) / max(n_steps - n_warmup, 1)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))
