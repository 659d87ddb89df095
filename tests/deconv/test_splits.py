"""No donor, and no copy of one, is on two sides of a split."""

import numpy as np
import pytest

from deconv.errors import InputError, LeakageError
from deconv.splits import split_at, split_by_donor


def test_each_tissue_keeps_donors_apart(pure, split):
    sides = [set(part.samples["donor"]) for part in (split.train, split.validation, split.test)]
    assert sum(len(side) for side in sides) == pure.samples["donor"].nunique()
    assert len(set.union(*sides)) == sum(len(side) for side in sides)
    assert (split.train.samples["tissue"].value_counts() == 3).all()
    assert (split.test.samples["tissue"].value_counts() == 1).all()


def test_seed_decides_the_donors(pure):
    def test_donors(seed):
        held_out = split_by_donor(pure, n_validation=1, n_test=1, seed=seed)
        return sorted(held_out.test.samples["donor"])

    assert test_donors(0) == test_donors(0)
    assert test_donors(0) != test_donors(1)


def test_all_samples_of_a_donor_go_together(make_counts):
    values = np.arange(12).reshape(6, 2)
    counts = make_counts(
        values, values + 1,
        tissue=["a", "a", "a", "b", "b", "b"], donor=["p", "q", "r", "p", "q", "r"],
    )  # fmt: skip
    split = split_by_donor(counts, n_validation=1, n_test=1, seed=0)
    for part in (split.train, split.validation, split.test):
        assert part.samples["donor"].nunique() == 1
        assert sorted(part.samples["tissue"]) == ["a", "b"]


def test_too_few_donors_are_refused(make_counts):
    counts = make_counts(tissue=["a", "a"], donor=["p", "q"])
    with pytest.raises(InputError, match="tissue a: too few donors to split; got 2"):
        split_by_donor(counts, n_validation=1, n_test=1, seed=0)


def test_given_split_with_a_donor_on_two_sides_is_refused(make_counts):
    counts = make_counts(tissue=["a", "a"], donor=["p", "p"])
    with pytest.raises(LeakageError, match="donor p in two sets"):
        split_at(counts, np.array(["train", "test"]))


def test_copy_of_the_data_under_another_donor_is_refused(make_counts):
    counts = make_counts([[1, 2], [1, 2]], [[3, 3], [3, 3]], tissue=["a", "a"], donor=["p", "q"])
    with pytest.raises(LeakageError, match="identical counts in two sets"):
        split_at(counts, np.array(["train", "validation"]))
