"""The fast sampler against the exact distribution: mean, variance, tails."""

import numpy as np
import pytest
import torch
from scipy.stats import poisson

from deconv.sampling import (
    N_CELLS,
    NORMAL_BITS,
    TABLE_MAX,
    PoissonSampler,
    random_bits,
    row_keys,
)

N = 400_000


def draw(means, seed=0):
    """Draw N numbers of each mean, which is jittered as coverage noise does."""
    means = torch.as_tensor(means, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    sampler = PoissonSampler(means.numpy() * 2, torch.device("cpu"))
    drawn = means.expand(N, -1).contiguous()
    cell = torch.randint(N_CELLS, drawn.shape, dtype=torch.int32, generator=generator)
    level = torch.randint(1 << NORMAL_BITS, drawn.shape, dtype=torch.int32, generator=generator)
    sampler.draw(drawn, cell, level)
    return drawn.numpy()


# Within a row of the table the mean is rounded by up to 1.6 %; next to these the
# sampling error of 400,000 draws is small.
@pytest.mark.parametrize(
    "mean", [0.003, 0.02, 0.1, 0.5, 1.0, 3.0, 10.0, 40.0, 100.0, 150.0, 900.0]
)
def test_mean_and_variance(mean):
    drawn = draw([mean])
    error = 0.016 if mean < TABLE_MAX else 0.0
    resolution = 1 / N_CELLS / mean
    tolerance = error + min(resolution, 0.3) + 4 / np.sqrt(N * mean)
    assert drawn.mean() == pytest.approx(mean, rel=tolerance)
    assert drawn.var() == pytest.approx(mean, rel=tolerance + 0.02)
    np.testing.assert_array_equal(drawn, drawn.round())


def test_means_are_unbiased_over_the_rows_of_the_table():
    """Means as they occur, spread by coverage noise over many rows: the roundings cancel."""
    rng = np.random.default_rng(0)
    for center in (0.002, 0.01, 0.05, 0.3, 2.0, 20.0):
        means = center * rng.lognormal(0, 0.5, 2000)
        sampler = PoissonSampler(means, torch.device("cpu"))
        drawn = torch.from_numpy(means.astype(np.float32)).expand(500, -1).contiguous()
        cell = torch.from_numpy(rng.integers(N_CELLS, size=drawn.shape, dtype=np.int32))
        sampler.draw(drawn, cell, cell)
        expected = means.sum() * 500
        error = 5 * np.sqrt(expected) + 0.01 * expected
        assert drawn.double().sum().item() == pytest.approx(expected, abs=error)
        # A mixture of Poissons: variance = mean of means + variance of means.
        assert drawn.double().var().item() == pytest.approx(means.mean() + means.var(), rel=0.05)


@pytest.mark.parametrize("mean", [0.05, 0.5, 5.0, 50.0, 200.0])
def test_distribution_function_and_tails(mean):
    drawn = draw([mean])
    for quantile in (0.01, 0.1, 0.5, 0.9, 0.99):
        value = poisson.ppf(quantile, mean)
        # The exact probability at the two ends of the table's row, and its resolution.
        ends = poisson.cdf(value, [mean * 1.016, mean / 1.016])
        slack = 1 / N_CELLS + 4 * np.sqrt(0.25 / N)
        assert ends[0] - slack <= (drawn <= value).mean() <= ends[1] + slack
    assert drawn.max() >= poisson.ppf(1 - 2 / N_CELLS, mean)
    assert drawn.min() <= poisson.ppf(2 / N_CELLS, mean)


def test_mean_zero_gives_nothing():
    assert (draw([0.0, 1e-6]) == 0).all()


def test_every_bit_is_a_fair_coin_and_no_two_go_together():
    bits = random_bits(torch.from_numpy(row_keys((1, 2), 64)), 8192).numpy().view(np.uint32)
    coins = np.unpackbits(bits.view(np.uint8).reshape(-1, 4), axis=1).astype(np.float64) - 0.5
    n = len(coins)
    assert np.abs(coins.mean(axis=0)).max() < 5 * 0.5 / np.sqrt(n)
    together = coins.T @ coins / n / 0.25
    assert np.abs(together - np.eye(32)).max() < 5.5 / np.sqrt(n)


def test_neighbouring_positions_and_rows_are_unrelated():
    bits = random_bits(torch.from_numpy(row_keys((1, 2), 64)), 8192).numpy().view(np.uint32)
    uniform = bits / 2.0**32 - 0.5
    n = uniform.size
    for one, other in ((uniform[:, 1:], uniform[:, :-1]), (uniform[1:], uniform[:-1])):
        assert abs(12 * (one * other).mean()) < 5 / np.sqrt(n)
    assert len(np.unique(bits)) > n * (1 - 2 * n / 2**32)


def test_the_keys_of_a_batch_are_its_own():
    keys = np.concatenate([row_keys((3, index), 100) for index in range(50)])
    assert len(np.unique(keys, axis=0)) == len(keys)
    np.testing.assert_array_equal(row_keys((3, 7), 100), keys[700:800])
