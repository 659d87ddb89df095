"""Laws of the spike-and-slab posterior, against brute force where it is possible."""

import itertools
import math

import numpy as np
import pytest
import torch

from deconv.posterior import (
    presence_log_odds,
    refit,
    refit_called,
    smallest_estimate,
    spike_and_slab,
)
from deconv.prior import _PIECES, _PRESENT


def equations(information, truth, sum_weight=1e6):
    """Noise-free normal equations of a Gram matrix, with the sum held at 1."""
    gram = torch.tensor(information, dtype=torch.float32)
    truth = torch.tensor(truth)
    held = torch.full_like(gram, sum_weight)
    return (gram + held)[None], ((gram + held) @ truth)[None]


def slab_density(fraction):
    return _PRESENT * sum(w / high * (fraction <= high) for high, w in _PIECES)


def brute_force(gram, moment, grid):
    """Posterior odds and means of two tissues by summing over a grid with a spike at 0."""
    values = np.concatenate([[0.0], grid])
    prior = np.concatenate([[1 - _PRESENT], slab_density(grid) * (grid[1] - grid[0])])
    weight, points = [], []
    for (a, wa), (b, wb) in itertools.product(zip(values, prior, strict=True), repeat=2):
        p = np.array([a, b])
        weight.append(math.log(wa) + math.log(wb) - p @ gram @ p / 2 + moment @ p)
        points.append(p)
    weight = np.exp(np.array(weight) - max(weight))
    weight /= weight.sum()
    points = np.array(points)
    mean = weight @ points
    present = weight @ (points >= 0.01)
    return mean, np.log(present / (1 - present))


@pytest.mark.parametrize("moment", [(8.0, 3.0), (40.0, 25.0), (10.0, 14.0)])
def test_two_related_tissues_have_the_exact_posterior(moment):
    gram = np.array([[400.0, 180.0], [180.0, 300.0]])
    mean, log_odds = brute_force(gram, np.array(moment), np.arange(0.001, 1, 0.002))
    found = spike_and_slab(
        torch.tensor(gram, dtype=torch.float64)[None], torch.tensor([moment], dtype=torch.float64)
    )
    np.testing.assert_allclose(found.mean[0], mean, atol=0.01)
    np.testing.assert_allclose(found.log_odds[0], log_odds, atol=0.35)


def test_single_precision_is_enough():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(50, 8, 40))
    gram = 10 ** rng.uniform(2, 5, (50, 1, 1)) * (half @ half.transpose(0, 2, 1)) / 40
    truth = rng.dirichlet(np.full(8, 0.2), 50)
    gram += np.trace(gram, axis1=1, axis2=2)[:, None, None] / 8
    moment = np.einsum("bts,bs->bt", gram, truth)
    exact = spike_and_slab(torch.from_numpy(gram), torch.from_numpy(moment))
    rounded = spike_and_slab(torch.from_numpy(gram).float(), torch.from_numpy(moment).float())
    torch.testing.assert_close(rounded.mean.double(), exact.mean, atol=2e-4, rtol=0)
    assert ((rounded.log_odds > 0) == (exact.log_odds > 0)).double().mean() > 0.99


def test_nothing_observed_says_nothing():
    gram, moment = torch.ones(1, 4, 4), torch.ones(1, 4)
    found = spike_and_slab(gram, moment)
    assert all(torch.isfinite(part).all() for part in found)
    assert found.log_odds.std() < 1e-3
    assert (found.std_error > 0.3).all()


def test_more_of_a_tissue_is_never_less_probable():
    estimate = torch.linspace(-0.05, 0.3, 400)[None].repeat(3, 1)
    error = torch.tensor([[0.0005], [0.005], [0.1]]).expand_as(estimate)
    odds = presence_log_odds(estimate, error)
    assert torch.isfinite(odds).all()
    assert (odds.diff(dim=1) > -1e-3).all()


def test_smallest_estimate_is_where_the_odds_are_reached():
    error = torch.tensor([[0.0005, 0.003, 0.02]])
    wanted = torch.tensor([[0.0, 1.0, -1.0]])
    found = smallest_estimate(wanted, error)
    torch.testing.assert_close(presence_log_odds(found, error), wanted, atol=0.02, rtol=0)
    assert found[0, 0].item() == pytest.approx(0.01, abs=0.0005)
    assert (smallest_estimate(torch.full((1, 1), 25.0), error[:, :1]) == 1).all()


def test_refit_gives_a_closed_tissues_share_to_the_one_like_it():
    gram, moment = equations(
        [[1000.0, 900.0, 0], [900.0, 1000.0, 0], [0, 0, 1000.0]], [0.5, 0, 0.5]
    )
    call = torch.tensor([[True, False, True]])
    torch.testing.assert_close(
        refit_called(gram, moment, call), torch.tensor([[0.5, 0.0, 0.5]]), atol=1e-3, rtol=0
    )
    only_other = refit_called(gram, moment, torch.tensor([[False, True, True]]))
    assert only_other[0, 0] == 0
    assert only_other[0, 1] > 0.4


def test_gates_of_refit_go_from_closed_to_open_and_have_a_gradient():
    gram, moment = torch.diag(torch.tensor([1e4, 1e4]))[None], torch.tensor([[3000.0, 7000.0]])
    logits = torch.tensor([[-4.0, 4.0]], requires_grad=True)
    fractions = refit(gram, moment, logits)
    expected = torch.sigmoid(logits.detach()) * torch.tensor([[0.3, 0.7]])
    torch.testing.assert_close(fractions.detach(), expected)
    fractions[0, 0].backward()
    assert logits.grad[0, 0] > 0
    assert refit(gram, moment, torch.tensor([[-50.0, 50.0]]))[0, 0] < 1e-6
