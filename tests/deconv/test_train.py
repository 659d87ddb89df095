"""Tests of the training loop on a small network with dropout, on CPU."""

import math

import pytest
import torch
from torch import nn

from deconv.errors import DivergenceError
from deconv.prefetch import prefetch
from deconv.train import TrainingConfig, TrainState, train

CONFIG = TrainingConfig(num_epochs=5, batch_size=4, mixtures_per_epoch=16)


class Record:
    def __init__(self):
        self.epochs = {}

    def log_metrics(self, metrics, *, step):
        self.epochs[step] = dict(metrics)


def new_state():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    return TrainState(model=model, optimizer=optimizer, scheduler=scheduler)


def batch_at(index):
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(index))


def batches(first, stop):
    return map(batch_at, range(first, stop))


def square_loss(model, batch):
    return {"loss": model(batch).square().mean()}


def draw_from_global_rng(model):
    return {"val/noise": torch.rand(()).item()}


def run(state, config=CONFIG, save=lambda state, is_best: None, **changes):
    record = Record()
    arguments = {"batches": batches, "loss_fn": square_loss, "validate": draw_from_global_rng}
    arguments |= {"score": "val/noise", "config": config, "record": record, "save": save}
    train(state, **(arguments | changes))
    return record.epochs


def test_resumed_run_is_an_uninterrupted_one(tmp_path):
    straight, stopped, resumed = new_state(), new_state(), new_state()
    path = tmp_path / "state.pt"

    def save_third(state, is_best):
        if state.epoch == 3:
            torch.save(state.state_dict(), path)

    torch.manual_seed(7)
    expected = run(straight)
    torch.manual_seed(7)
    run(stopped, save=save_third)
    torch.manual_seed(999)  # another process would have another RNG
    resumed.load_state_dict(torch.load(path, weights_only=True))
    actual = run(resumed)

    assert list(actual) == [4, 5]
    assert all(actual[epoch] == expected[epoch] for epoch in actual)
    assert resumed.best_epoch == straight.best_epoch
    for left, right in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_accumulated_small_batches_equal_a_large_one():
    def whole(first, stop):
        return (torch.cat([batch_at(2 * i), batch_at(2 * i + 1)]) for i in range(first, stop))

    large, small = new_state(), new_state()
    for state in (large, small):
        state.model[2].p = 0.0
    run(large, CONFIG.model_copy(update={"batch_size": 8}), batches=whole)
    run(small, CONFIG.model_copy(update={"gradient_accumulation_steps": 2}))
    for left, right in zip(large.model.parameters(), small.model.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def test_schedule_advances_once_an_optimizer_step():
    state = new_state()
    config = CONFIG.model_copy(update={"gradient_accumulation_steps": 2})
    run(state, config)
    assert config.n_steps == 10
    assert state.scheduler.last_epoch == 10


def test_gradients_are_clipped():
    state = new_state()
    state.optimizer = torch.optim.SGD(state.model.parameters(), lr=1.0)
    state.scheduler = torch.optim.lr_scheduler.ConstantLR(state.optimizer, factor=1.0)
    before = [p.detach().clone() for p in state.model.parameters()]
    config = TrainingConfig(num_epochs=1, batch_size=4, mixtures_per_epoch=4, max_grad_norm=1e-3)
    epochs = run(state, config, loss_fn=lambda m, b: {"loss": 1e6 * m(b).square().mean()})
    moved = math.sqrt(
        sum(
            (a - b.detach()).square().sum().item()
            for a, b in zip(before, state.model.parameters(), strict=True)
        )
    )
    assert moved == pytest.approx(1e-3, rel=1e-3)
    assert epochs[1]["train/gradient_norm"] > 1e3


def test_best_epoch_is_the_one_of_the_smallest_score():
    scores = iter([0.5, 0.2, 0.3, 0.1, 0.4])
    saved = []
    state = new_state()
    run(
        state,
        validate=lambda model: {"val/noise": next(scores)},
        save=lambda state, is_best: saved.append(is_best),
    )
    assert saved == [True, True, False, True, False]
    assert (state.best_epoch, state.best_score) == (4, 0.1)


def test_epoch_is_recorded_before_it_is_saved():
    order = []

    class Ordered(Record):
        def log_metrics(self, metrics, *, step):
            order.append(("record", step))

    run(new_state(), save=lambda s, best: order.append(("save", s.epoch)), record=Ordered())
    assert order[:4] == [("record", 1), ("save", 1), ("record", 2), ("save", 2)]


def test_validation_runs_at_its_frequency_and_at_the_end():
    epochs = run(new_state(), CONFIG.model_copy(update={"validation_frequency": 2}))
    assert [e for e, metrics in epochs.items() if "val/noise" in metrics] == [2, 4, 5]


def test_divergence_stops_before_anything_is_saved():
    saved = []
    with pytest.raises(DivergenceError, match="epoch 1: the gradient is not finite"):
        run(
            new_state(),
            loss_fn=lambda m, b: {"loss": m(b).sum() * float("nan")},
            save=lambda s, best: saved.append(s),
        )
    assert not saved


@pytest.mark.parametrize("n_workers", [0, 1, 3])
def test_prefetching_keeps_order_and_content(n_workers):
    drawn = list(prefetch(batch_at, 5, 12, n_workers))
    assert len(drawn) == 7
    assert all(torch.equal(a, batch_at(i)) for i, a in enumerate(drawn, start=5))


def test_error_in_a_worker_reaches_the_loop():
    def broken(index):
        raise RuntimeError(f"batch {index}")

    with pytest.raises(RuntimeError, match="batch 0"):
        list(prefetch(broken, 0, 3, 2))
