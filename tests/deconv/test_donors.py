"""Pseudo-donors have the atlas' mean and dispersion, and a seed determines each."""

import dataclasses

import numpy as np
import pytest

from deconv.atlas import atlas_from_means, build_atlas
from deconv.donors import donors_from_means
from deconv.errors import InputError
from deconv.regions import RegionSet

N_REGIONS = 400


@pytest.fixture(scope="module")
def means_only():
    start = 100 * np.arange(N_REGIONS)
    regions = RegionSet(np.array(["chr1"] * N_REGIONS), start, start + 50, "hg19", "u_fragment")
    mean = np.random.default_rng(0).uniform(0.1, 0.9, (2, N_REGIONS))
    return atlas_from_means(["Liver", "Lung"], regions, mean)


def test_donors_have_tissue_names_and_stated_coverage(means_only):
    counts = donors_from_means(means_only, n_donors=3, coverage=50, seed=0)
    assert counts.samples["tissue"].tolist() == ["Liver"] * 3 + ["Lung"] * 3
    assert counts.samples["donor"].nunique() == 6
    assert counts.regions is means_only.regions
    assert (counts.coverage == 50).all()


def test_mean_and_variance_are_those_of_the_atlas(means_only):
    counts = donors_from_means(means_only, n_donors=300, coverage=1000, seed=1)
    beta = (counts.methylated / counts.coverage)[:300]
    mean = means_only.mean[0].astype(np.float64)
    np.testing.assert_allclose(beta.mean(axis=0), mean, atol=0.02)
    spread = (beta - mean).var(axis=0).mean() / (mean * (1 - mean)).mean()
    # Between donors .02, and of the rest a thousandth for a thousand observations.
    assert spread == pytest.approx(0.02 + 0.98 / 1000, rel=0.05)


def test_atlas_of_the_donors_is_the_atlas(means_only):
    atlas = build_atlas(donors_from_means(means_only, n_donors=200, coverage=1000, seed=2))
    assert atlas.tissues == means_only.tissues
    np.testing.assert_allclose(atlas.mean, means_only.mean, atol=0.025)
    assert np.median(atlas.rho) == pytest.approx(0.02, rel=0.1)


def test_more_donors_leave_the_first_ones(means_only):
    few = donors_from_means(means_only, n_donors=2, coverage=30, seed=5)
    many = donors_from_means(means_only, n_donors=4, coverage=30, seed=5)
    np.testing.assert_array_equal(many.methylated[[0, 1, 4, 5]], few.methylated)
    other = donors_from_means(means_only, n_donors=2, coverage=30, seed=6)
    assert (other.methylated != few.methylated).mean() > 0.5
    assert (few.methylated[0] != few.methylated[1]).mean() > 0.5


def test_coverage_follows_the_profile(means_only):
    profile = np.linspace(0, 2, N_REGIONS, dtype=np.float32)
    uneven = dataclasses.replace(means_only, profile=profile)
    counts = donors_from_means(uneven, n_donors=1, coverage=10, seed=0)
    assert counts.coverage[0, [0, N_REGIONS // 2, -1]].tolist() == [0, 10, 20]
    assert counts.methylated[0, 0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_donors": 0}, "n_donors must be positive; got 0"),
        ({"coverage": 0}, "coverage is out of range; got 0"),
        ({"coverage": -3}, "coverage is out of range"),
        ({"coverage": 1e10}, "at most 2147483647"),
        ({"coverage": 0.1}, "coverage is out of range"),
    ],
)
def test_impossible_numbers_are_refused(means_only, options, message):
    with pytest.raises(InputError, match=message):
        donors_from_means(means_only, **{"n_donors": 2, "coverage": 10, "seed": 0, **options})
