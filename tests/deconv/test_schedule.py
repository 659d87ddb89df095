"""The learning rate in optimizer steps."""

import pytest
from torch import nn

from deconv.model import ModelConfig, TwoStageNetwork
from deconv.schedule import (
    OptimizerConfig,
    SchedulerConfig,
    make_optimizer,
    make_scheduler,
    rate_at,
)


def test_warm_up_peak_and_end():
    rates = [rate_at(s, n_steps=100, n_warmup=10, floor=0.1) for s in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.1 + 0.9 / 2)
    assert rates[100] == pytest.approx(0.1)
    assert max(rates) == 1.0


def test_rate_reaches_its_peak_within_the_run():
    """The earlier attempt's schedule was still in its warm-up when training ended."""
    model = nn.Linear(2, 2)
    optimizer = make_optimizer(model, OptimizerConfig(), learning_rate=1e-3, weight_decay=0.1)
    scheduler = make_scheduler(optimizer, SchedulerConfig(), n_steps=40, warmup_ratio=0.1)
    rates = []
    for _ in range(40):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates.index(max(rates)) == 3
    assert max(rates) == 1e-3
    assert rates[-1] < 1e-5


def test_weights_decay_but_not_biases_norms(atlas):
    config = ModelConfig(hidden_size=16, intermediate_size=16)
    network = TwoStageNetwork(config, atlas, read_effect=2.5)
    optimizer = make_optimizer(network, OptimizerConfig(), learning_rate=1, weight_decay=0.5)
    decayed, kept = (group["params"] for group in optimizer.param_groups)
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    assert optimizer.param_groups[1]["weight_decay"] == 0
    names = {id(p): name for name, p in network.named_parameters()}
    assert {names[id(p)] for p in decayed} == {
        "atlas_correction", "projection.weight", "blocks.0.weight", "blocks.4.weight",
        "blocks.8.weight", "presence_head.weight", "proportion_head.weight",
    }  # fmt: skip
    assert len(decayed) + len(kept) == len(names)
