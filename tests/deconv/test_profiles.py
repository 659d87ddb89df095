"""Mixtures of sets that exceed memory: selections of their samples, read from the file."""

import shutil

import h5py
import numpy as np
import pytest
import torch

from deconv.errors import ConfigError, InputError
from deconv.mixtures import MixingEngine
from deconv.profiles import ProfilePool
from deconv.splits import split_by_donor
from deconv.stored import open_h5ad

CPU = torch.device("cpu")


def pool(pure, atlas, megabytes, *, in_atlas=False):
    return ProfilePool(
        pure, atlas, in_atlas=in_atlas, read_effect=2.5, megabytes=megabytes, seed=3, device=CPU
    )


def half(split):
    """Memory for selections of one sample of each tissue's three."""
    return 4e-6 * len(split.train.regions) * 2 * 6


@pytest.fixture
def stored(atlas_file):
    return split_by_donor(open_h5ad(atlas_file), n_validation=1, n_test=1, seed=0)


def test_file_gives_the_same_mixtures_as_memory(split, stored, atlas, mixture_config):
    for megabytes in (1000, half(split)):
        drawn = [
            MixingEngine(
                pure, atlas, mixture_config, seed=1, in_atlas=True, megabytes=megabytes
            ).batch(70, 32)
            for pure in (split.train, stored.train)
        ]
        assert torch.equal(drawn[0].methylated, drawn[1].methylated)
        assert torch.equal(drawn[0].coverage, drawn[1].coverage)


def test_selections_change_and_cover_all_samples(split, stored, atlas):
    whole = pool(split.train, atlas, 1000).at(0)
    small = pool(stored.train, atlas, half(split))
    assert whole.number.tolist() == [3] * 6
    assert torch.equal(whole.beta, pool(split.train, atlas, 1000).at(10**6).beta)
    seen = set()
    for batch in range(0, 64 * 20, 64):
        profiles = small.at(batch)
        assert profiles.number.tolist() == [1] * 6
        assert torch.equal(profiles.beta, small.at(batch + 63).beta)
        seen.update(
            torch.nonzero((whole.beta[:3] == profiles.beta[0]).all(dim=1)).flatten().tolist()
        )
    assert seen == {0, 1, 2}
    again = pool(stored.train, atlas, half(split))
    assert torch.equal(again.at(batch).beta, profiles.beta)
    assert len(small._held) == 2


def test_virtual_donors_vary_as_real_ones_and_the_known_atlas_as_their_mean(split, atlas):
    donors = pool(split.train, atlas, 1000, in_atlas=True)
    inner = (atlas.mean > 0.1) & (atlas.mean < 0.9)  # where clipping to 0..1 does not matter
    of_tissue = np.repeat(np.arange(6), 3)
    variance, error = [], []
    for batch in range(0, 64 * 30, 64):
        profiles = donors.at(batch)
        deviation = profiles.beta.numpy() - atlas.mean[of_tissue]
        variance.append((deviation**2)[inner[of_tissue]].mean())
        error.append(((profiles.estimator.mean.numpy() - atlas.mean) ** 2)[inner].mean())
        assert profiles.estimator is donors.at(batch + 63).estimator
    real = pool(split.train, atlas, 1000).at(0).beta.numpy()
    observed = ((real - atlas.mean[of_tissue]) ** 2)[inner[of_tissue]].mean()
    assert np.mean(variance) == pytest.approx(observed * 3 / 2, rel=0.1)
    assert np.mean(error) == pytest.approx(np.mean(variance) / 3, rel=0.1)
    again = pool(split.train, atlas, 1000, in_atlas=True)
    assert torch.equal(again.at(batch).beta, profiles.beta)


def test_a_single_donor_deviates_as_the_atlas_expects(split, atlas):
    one = split.train.take(np.flatnonzero(split.train.samples["donor"].str.endswith("-1")))
    if set(one.samples["tissue"]) != set(atlas.tissues):
        first = split.train.samples.groupby("tissue")["donor"].transform("first")
        one = split.train.take(np.flatnonzero(split.train.samples["donor"] == first))
    donors = pool(one, atlas, 1000, in_atlas=True)
    inner = (atlas.mean > 0.2) & (atlas.mean < 0.8)
    beta = np.stack([donors.at(batch).beta.numpy() for batch in range(0, 64 * 40, 64)])
    expected = (atlas.rho * atlas.mean * (1 - atlas.mean))[inner].mean()
    assert ((beta - atlas.mean) ** 2)[:, inner].mean() == pytest.approx(expected, rel=0.15)


def test_memory_that_holds_nothing_is_refused(split, atlas):
    with pytest.raises(
        ConfigError, match=r"profile_megabytes: too little memory .* at least 0\.019"
    ):
        pool(split.train, atlas, 0.9 * half(split))


def test_samples_are_taken_in_any_order(pure, atlas_file):
    stored = open_h5ad(atlas_file)
    assert stored.content_hash == pure.content_hash
    some = stored.take([7, 2, 2]).take([1, 0])
    assert list(some.samples.index) == list(pure.samples.index[[2, 7]])
    for (methylated, coverage), row in zip(some.rows(), (2, 7), strict=True):
        np.testing.assert_array_equal(methylated, pure.methylated[row])
        np.testing.assert_array_equal(coverage, pure.coverage[row])
    assert some.load().content_hash == pure.take([2, 7]).content_hash


def test_file_chunked_by_many_samples_is_read(tmp_path, pure, atlas_file):
    path = shutil.copy(atlas_file, tmp_path / "chunked.h5ad")
    with h5py.File(path, "r+") as file:
        for name in ("methylated", "coverage"):
            values = file["layers"][name][:]
            del file["layers"][name]
            file["layers"].create_dataset(name, data=values, chunks=(4, 100))
    stored = open_h5ad(path)
    assert stored.take([0, 5, 6, 29]).load().content_hash == (
        pure.take([0, 5, 6, 29]).content_hash
    )


def test_damage_met_while_streaming_names_the_file(tmp_path, atlas_file):
    data = bytearray(atlas_file.read_bytes())
    path = tmp_path / "damaged.h5ad"
    with h5py.File(atlas_file) as file:
        chunk = file["layers/coverage"].id.get_chunk_info(3)
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged\.h5ad"):
        open_h5ad(path)
