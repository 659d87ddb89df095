"""From a configuration to a run that is ready to begin: data, network, optimizer."""

from dataclasses import dataclass
from pathlib import Path

import torch

from deconv.bundle import read_bundle
from deconv.checkpoint import Checkpoint, load_checkpoint, start_from
from deconv.errors import ConfigError
from deconv.memory import keep_freed_memory
from deconv.model import TwoStageNetwork
from deconv.parallel import Group
from deconv.precision import product_dtype
from deconv.schedule import make_optimizer, make_scheduler
from deconv.train import TrainState
from experiments.config import RunConfig
from experiments.data import RunData, load_run_data
from experiments.fetch import fetch_model


@dataclass(frozen=True)
class PreparedRun:
    """A run whose configuration, data and network fit together; nothing is written yet."""

    config: RunConfig
    data: RunData
    state: TrainState
    device: torch.device
    group: Group

    @property
    def dtype(self) -> torch.dtype:
        """Number format of matrix products in training."""
        return product_dtype(self.config.training.precision, self.device)


def prepare_run(
    config: RunConfig, device: torch.device, group: Group | None = None
) -> PreparedRun:
    """Load the data and build the network.

    Raises
    ------
    DeconvError
        If configuration, data or a checkpoint to start from do not fit.
    """
    if device.type == "cpu":
        keep_freed_memory()
    group = group or Group()
    group.rows(config.training.batch_size)
    data = load_run_data(config, device)
    return PreparedRun(config, data, new_state(config, data, device), device, group)


def new_state(config: RunConfig, data: RunData, device: torch.device) -> TrainState:
    """Return a network at its start, with optimizer and schedule, seeded by the config."""
    torch.manual_seed(config.random_seed)  # of weights and dropout; a resumed run restores it
    network = TwoStageNetwork(
        config.model, data.atlas, read_effect=config.data.mixtures.read_effect
    )
    if config.model.pretrained_checkpoint is not None:
        source = config.model.pretrained_checkpoint
        start_from(network, data.atlas, load_pretrained(source), source)
    network = network.to(device)
    if config.training.compile:
        network.compile_posterior()
    training = config.training
    optimizer = make_optimizer(
        network, config.optimizer,
        learning_rate=training.learning_rate, weight_decay=training.weight_decay,
    )  # fmt: skip
    scheduler = make_scheduler(
        optimizer, config.scheduler, n_steps=training.n_steps, warmup_ratio=training.warmup_ratio
    )
    return TrainState(model=network, optimizer=optimizer, scheduler=scheduler)


def load_pretrained(source: str) -> Checkpoint:
    """Load what a curriculum starts from: a checkpoint file, or a model URI of MLflow."""
    if ":/" in source:
        bundle = read_bundle(fetch_model(source))
        return Checkpoint(bundle.network, bundle.atlas, epoch=0)
    return load_checkpoint(Path(source))


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """Return a device by name; ``auto`` is CUDA where there is one.

    Raises
    ------
    ConfigError
        If there is no such device here.
    """
    has_cuda = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if has_cuda else "cpu"
    if name not in ("cpu", "cuda") or (name == "cuda" and not has_cuda):
        found = "cpu, cuda or auto" if has_cuda else "cpu or auto (no CUDA device is here)"
        raise ConfigError("no such device", where="--device", got=name, expected=found)
    return torch.device(name, local_rank) if name == "cuda" else torch.device(name)
