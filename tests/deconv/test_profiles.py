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


def pool(pure, atlas, megabytes):
    return ProfilePool(pure, atlas, in_atlas=True, megabytes=megabytes, seed=3, device=CPU)


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
