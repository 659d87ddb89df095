"""The loss on outputs small enough to check by hand."""

import math

import pytest
import torch

from deconv.losses import LossConfig, loss_terms, running_metrics
from deconv.output import Output, soft_proportions

LOGITS = torch.tensor([[20.0, 20.0, -20.0]])
SCORES = torch.tensor([[0.6, 0.4, 0.9]]).log()
TRUE = torch.tensor([[0.6, 0.4, 0.0]])


def test_terms_of_a_perfect_output_vanish_but_for_the_tissues_called():
    terms = loss_terms(Output(LOGITS, SCORES), TRUE, LossConfig(sparsity_weight=0.5))
    assert terms["mse_loss"].item() == pytest.approx(0, abs=1e-12)
    assert terms["presence_loss"].item() == pytest.approx(0, abs=1e-6)
    assert terms["sparsity_loss"].item() == pytest.approx(2 / 3)
    assert terms["loss"].item() == pytest.approx(1 / 3)


def test_closed_gate_takes_all_mass_from_its_tissue():
    proportions = soft_proportions(Output(LOGITS, SCORES))
    assert proportions[0, 2].item() < 1e-8  # not e^0 / sum, as multiplying logits would give
    torch.testing.assert_close(proportions, TRUE, atol=1e-6, rtol=0)


def test_weights_multiply_their_terms():
    output = Output(torch.zeros(1, 3), torch.zeros(1, 3))
    config = LossConfig(mse_weight=2, presence_weight=3, sparsity_weight=5)
    terms = loss_terms(output, TRUE, config)
    mse = ((0.6 - 1 / 3) ** 2 + (0.4 - 1 / 3) ** 2 + (1 / 3) ** 2) / 3
    assert terms["mse_loss"].item() == pytest.approx(mse)
    assert terms["presence_loss"].item() == pytest.approx(math.log(2))
    assert terms["sparsity_loss"].item() == pytest.approx(0.5)
    assert terms["loss"].item() == pytest.approx(2 * mse + 3 * math.log(2) + 5 * 0.5)


def test_sparsity_loss_can_shrink():
    logits = torch.zeros(1, 3, requires_grad=True)
    loss_terms(Output(logits, SCORES), TRUE, LossConfig())["sparsity_loss"].backward()
    assert (logits.grad > 0).all()


def test_presence_counts_from_its_threshold():
    true = torch.tensor([[0.985, 0.015, 0.0]])
    output = Output(LOGITS, SCORES)
    low, high = (
        loss_terms(output, true, LossConfig(presence_threshold=t))["presence_loss"].item()
        for t in (0.01, 0.02)
    )
    assert low == pytest.approx(0, abs=1e-6)
    assert high == pytest.approx(20 / 3, rel=1e-3)


def test_running_metrics_are_those_of_the_batch():
    metrics = running_metrics(Output(LOGITS, SCORES), TRUE, present_from=0.01, called_from=0.5)
    assert metrics["presence_accuracy"].item() == 1
    assert metrics["mae"].item() == pytest.approx(0, abs=1e-6)
    assert metrics["spurious_mass"].item() == pytest.approx(0, abs=1e-6)
