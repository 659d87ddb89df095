"""Reference profiles of donors small enough to check by hand."""

import numpy as np
import pytest

from deconv.atlas import build_atlas, smoothed_beta
from deconv.errors import InputError


def test_mean_weighs_donors_by_their_reads(make_counts):
    counts = make_counts(
        [[20, 0], [0, 40], [30, 5]], [[20, 0], [60, 40], [60, 10]],
        tissue=["a", "a", "b"], donor=["p", "q", "r"],
    )  # fmt: skip
    atlas = build_atlas(counts)
    assert atlas.tissues == ("a", "b")
    # weights 20/40 and 60/80 of beta values 1 and 0
    assert atlas.mean[0, 0] == pytest.approx(0.5 / 1.25)
    assert atlas.mean[0, 1] == pytest.approx(0.999)  # kept inside (0, 1)
    assert atlas.mean[1].tolist() == [0.5, 0.5]


def test_uncovered_tissue_takes_the_mean_of_the_others(make_counts):
    counts = make_counts(
        [[0], [10], [30]], [[0], [100], [100]], tissue=["a", "b", "c"], donor=["p", "q", "r"]
    )
    assert build_atlas(counts).mean[:, 0].tolist() == pytest.approx([0.2, 0.1, 0.3])


def test_low_coverage_is_drawn_to_the_expectation_and_none_is_it(make_counts):
    counts = make_counts([[0, 1, 500]], [[0, 2, 1000]])
    smoothed = smoothed_beta(*next(counts.rows()), np.full(3, 0.9, dtype=np.float32))
    assert smoothed.tolist() == pytest.approx([0.9, (1 + 1.8) / 4, 501.8 / 1002])


def test_dispersion_is_that_of_the_donors(make_counts):
    rng = np.random.default_rng(0)
    total = 1 / 0.05 - 1
    beta = rng.beta(0.4 * total, 0.6 * total, size=(40, 500))
    coverage = np.full(beta.shape, 5000)
    counts = make_counts(
        rng.binomial(coverage, beta), coverage,
        tissue=["a"] * 20 + ["b"] * 20, donor=[f"d{i}" for i in range(40)],
    )  # fmt: skip
    assert np.median(build_atlas(counts).rho) == pytest.approx(0.05, rel=0.1)


def test_single_donors_get_the_assumed_dispersion(make_counts):
    atlas = build_atlas(make_counts(tissue=["a", "b"], donor=["p", "q"]))
    assert atlas.rho.tolist() == pytest.approx([0.02, 0.02])


def test_hash_sees_profiles_and_names(atlas, split):
    assert build_atlas(split.train).content_hash == atlas.content_hash
    assert build_atlas(split.test).content_hash != atlas.content_hash


def test_one_tissue_is_no_atlas(make_counts):
    with pytest.raises(InputError, match="two tissues"):
        build_atlas(make_counts(tissue=["a", "a"], donor=["p", "q"]))
