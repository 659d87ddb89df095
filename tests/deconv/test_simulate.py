"""The simulated atlas has the statistics that it is meant to have."""

import dataclasses

import numpy as np
import pytest

from deconv.errors import InputError
from deconv.simulate import LINEAGES, TISSUES, AtlasModel, simulate_atlas, tissue_levels
from deconv.stored import read_h5ad


@pytest.fixture(scope="module")
def levels():
    model = dataclasses.replace(AtlasModel(), marker_share=1, hypermethylated_share=0)
    return tissue_levels(20_000, TISSUES, model, np.random.default_rng(0))


def test_markers_look_like_those_of_real_atlases(levels):
    ordered = np.sort(levels, axis=0)
    assert np.median(ordered[-1]) == pytest.approx(0.91, abs=0.01)
    assert np.quantile(ordered[-1], 0.1) == pytest.approx(0.67, abs=0.04)
    assert np.median(levels) == pytest.approx(0.01, abs=0.003)
    assert np.median(ordered[-2]) == pytest.approx(0.13, abs=0.02)
    assert np.quantile(ordered[-2], 0.9) == pytest.approx(0.38, abs=0.04)


def test_relatives_share_markers(levels):
    gut = [TISSUES.index(t) for t in LINEAGES["gut"]]
    target = levels.argmax(axis=0) == gut[0]
    others = [i for i in range(len(TISSUES)) if i not in gut]
    assert levels[gut[1], target].mean() > 3 * levels[others][:, target].mean()


def test_between_donor_and_coverage_statistics(tmp_path):
    simulate_atlas(tmp_path / "a.h5ad", n_regions=3000, n_donors=10, depth=400, seed=1)
    counts = read_h5ad(tmp_path / "a.h5ad")
    assert len(counts) == 220
    assert counts.coverage.mean() == pytest.approx(400, rel=0.05)
    per_region = counts.coverage.mean(axis=0)
    size = per_region.mean() ** 2 / per_region.var()  # of CpGs x gamma(1.5)
    assert 0.7 < size < 1.5
    assert (counts.coverage == 0).mean() > 0.001
    rows = counts.samples["tissue"].to_numpy() == "Liver"
    seen = (counts.coverage[rows] > 200).all(axis=0)
    beta = counts.beta[rows][:, seen]
    mean = beta.mean(axis=0)
    middle = (mean > 0.05) & (mean < 0.95)
    rho = beta.var(axis=0, ddof=1)[middle] / (mean * (1 - mean))[middle]
    # The reads add (1 + 3 x .5) / 400 or so to a median rho of .01.
    assert 0.008 < np.median(rho) < 0.03


def test_reads_are_co_methylated():
    from deconv.simulate import _draw_counts

    model = AtlasModel()
    beta, expected = np.full(100_000, 0.3), np.full(100_000, 40.0)
    methylated, coverage = _draw_counts(beta, expected, model, np.random.default_rng(0))
    seen = coverage > 0
    share = methylated[seen] / coverage[seen]
    inflation = np.mean((share - 0.3) ** 2 * coverage[seen]) / (0.3 * 0.7)
    assert inflation == pytest.approx(1 + 3 * model.read_correlation, rel=0.02)


def test_seed_decides_the_content(tmp_path):
    def content(seed):
        simulate_atlas(
            tmp_path / "a.h5ad", n_regions=50, n_donors=2, depth=20, seed=seed, tissues=("x", "y")
        )
        return read_h5ad(tmp_path / "a.h5ad").content_hash

    assert content(1) == content(1)
    assert content(1) != content(2)


@pytest.mark.parametrize(
    "wrong", [{"n_regions": 0}, {"n_donors": -1}, {"depth": 0.0}, {"tissues": ("x", "x")}]
)
def test_impossible_requests_are_refused_and_write_nothing(tmp_path, wrong):
    request = {"n_regions": 50, "n_donors": 2, "depth": 20.0, "tissues": ("x", "y")} | wrong
    with pytest.raises(InputError):
        simulate_atlas(tmp_path / "a.h5ad", seed=0, **request)
    assert not list(tmp_path.iterdir())
