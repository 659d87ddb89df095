"""Intervals of differences between methods on the same samples."""

import numpy as np
import pytest

from deconv.benchmarks.bootstrap import N_PAIRED, bootstrap_intervals, holm, paired_differences


@pytest.fixture
def methods():
    """Truth, and two methods whose errors are those of the sample more than their own."""
    rng = np.random.default_rng(0)
    true = rng.dirichlet(np.ones(5), 60)
    difficulty = rng.exponential(0.05, (60, 1)) * np.sign(rng.normal(size=(60, 5)))
    first = true + difficulty
    second = first + 0.004 * np.sign(difficulty)
    return true, (first, first >= 0.01), (second, second >= 0.01)


def test_difference_is_that_of_the_metrics_and_pairing_makes_it_certain(methods):
    true, first, second = methods
    found = paired_differences(second, first, true, seed=1)["mae"]
    assert found.value == pytest.approx(0.004)
    assert found.low <= found.value <= found.high
    assert found.p_value == pytest.approx(2 / (N_PAIRED + 1))
    mine, theirs = (bootstrap_intervals(p, true, c, seed=1)["mae"] for p, c in (first, second))
    assert theirs[0] < mine[1]  # unpaired, the two could not be told apart
    mirrored = paired_differences(first, second, true, seed=1)["mae"]
    assert (mirrored.value, mirrored.low) == pytest.approx((-found.value, -found.high))


def test_a_method_does_not_differ_from_itself(methods):
    true, first, _ = methods
    for difference in paired_differences(first, first, true, seed=1).values():
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)
        assert difference.p_value == 1


def test_holm_multiplies_the_smallest_by_all_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []
