"""The earlier attempt's HDF5: counted as a plain loop counts it, in parts, refused if odd."""

import json

import h5py
import numpy as np
import pytest

from deconv.errors import InputError, MismatchError
from deconv.formats import ReadOptions, earlier_hdf5, open_counts, read_counts
from deconv.regions import RegionSet
from deconv.splits import split_by_donor

TISSUES = ["Blood", "Colon"]


def panel(n):
    start = 1000 * np.arange(n)
    return RegionSet(np.full(n, "chr1"), start, start + 150, "hg38")


def write_pure(path, patterns, names, labels, versions, *, chunks=None, group="metadata"):
    with h5py.File(path, "w") as file:
        file.create_dataset("methylation", data=patterns, chunks=chunks, compression="gzip")
        file["tissue_labels"] = labels
        tables = file.create_group(group) if group else file
        text = h5py.string_dtype()
        tables.create_dataset("tissue_names", data=TISSUES, dtype=text)
        tables.create_dataset("sample_names", data=names, dtype=text)
        tables["aug_versions"] = versions
    return path


def write_mixtures(path, means, proportions):
    with h5py.File(path, "w") as file:
        file["mixed_methylation"] = means
        file["true_proportions"] = proportions
        file["mixture_info"] = [json.dumps({"n_tissues": 2})] * len(means)
        file.attrs.update(tissue_names=TISSUES, n_tissues=2, n_regions=means.shape[1])
        file.attrs.update(n_mixtures=len(means), phase=2, split="test")
    return path


def example(rng, n_samples=5, n_regions=7, n_positions=150):
    called = rng.random((n_samples, n_regions, n_positions)) < 0.05
    patterns = np.where(called, rng.integers(0, 2, called.shape), 2).astype(np.uint8)
    return patterns, ["S1", "S1", "S2", "S3", "S3"], [0, 0, 0, 1, 1], [0, 1, 0, 0, 2]


@pytest.mark.parametrize("chunks", [None, (1, 7, 150), (2, 3, 150), (5, 1, 50)])
@pytest.mark.parametrize("block_bytes", [1, 2000, 1 << 25])
def test_patterns_are_counted_as_a_plain_loop_counts(tmp_path, monkeypatch, chunks, block_bytes):
    monkeypatch.setattr(earlier_hdf5, "_BLOCK_BYTES", block_bytes)
    patterns, *tables = example(np.random.default_rng(0))
    path = write_pure(tmp_path / "pure.h5", patterns, *tables, chunks=chunks)
    counts = read_counts(path, regions=panel(7))
    for i, sample in enumerate(patterns.tolist()):
        assert counts.methylated[i].tolist() == [region.count(1) for region in sample]
        assert counts.coverage[i].tolist() == [len(r) - r.count(2) for r in sample]
    assert counts.samples["tissue"].tolist() == ["Blood"] * 3 + ["Colon"] * 2
    assert "in the order of the panel" in counts.notes[0]


def test_augmented_copies_are_of_one_donor_and_never_on_both_sides_of_a_split(tmp_path):
    rng = np.random.default_rng(0)
    patterns = np.repeat(example(rng, n_samples=12)[0], 2, axis=0)
    names = [f"{tissue}_{i}{suffix}" for tissue in TISSUES for i in range(6)
             for suffix in ("", "_aug1")]  # fmt: skip
    path = write_pure(
        tmp_path / "pure.h5", patterns, names, np.repeat([0, 1], 12), np.tile([0, 1], 12)
    )
    counts = read_counts(path, regions=panel(7))
    assert counts.samples["donor"].tolist()[:4] == ["Blood_0", "Blood_0", "Blood_1", "Blood_1"]
    assert counts.samples.index.tolist()[:2] == ["Blood_0", "Blood_0-aug1"]
    split = split_by_donor(counts, n_validation=1, n_test=1, seed=0)
    train, test = (set(part.samples["donor"]) for part in (split.train, split.test))
    assert not train & test


def test_a_donor_of_two_tissues_gives_two_samples(tmp_path):
    patterns = example(np.random.default_rng(0))[0]
    path = write_pure(tmp_path / "a.hdf5", patterns, ["S"] * 5, [0, 1, 0, 0, 1], [0, 0, 1, 2, 1])
    counts = read_counts(path, regions=panel(7))
    assert counts.samples.index.tolist() == [
        "Blood-S", "Colon-S", "Blood-S-aug1", "Blood-S-aug2", "Colon-S-aug1",
    ]  # fmt: skip


def test_selected_samples_are_read_alone_and_in_any_order(tmp_path):
    patterns, *tables = example(np.random.default_rng(0))
    path = write_pure(tmp_path / "pure.h5", patterns, *tables, chunks=(2, 7, 150), group=None)
    counts = open_counts(path, regions=panel(7))
    some = counts.take([4, 0, 3])
    rows = [pair[1].tolist() for pair in some.rows()]
    assert rows == counts.load().coverage[[4, 0, 3]].tolist()
    assert some.load().samples.index.tolist() == ["S3-aug2", "S1", "S3"]


def test_means_become_counts_of_the_stated_coverage(tmp_path):
    means = np.array([[0, 0.5, 1], [0.25, np.nan, 0.1]], dtype=np.float32)
    path = write_mixtures(tmp_path / "mix.h5", means, [[0.5, 0.5], [0, 1]])
    counts = read_counts(path, regions=panel(3))
    assert counts.methylated.tolist() == [[0, 50, 100], [25, 0, 10]]
    assert counts.coverage.tolist() == [[100, 100, 100], [100, 0, 100]]
    assert counts.proportions.to_dict("list") == {"Blood": [0.5, 0], "Colon": [0.5, 1]}
    assert "100 observations each" in counts.notes[1]
    counts = read_counts(path, regions=panel(3), options=ReadOptions(pseudo_coverage=8))
    assert counts.methylated.tolist() == [[0, 4, 8], [2, 0, 1]]


def _replace(name, value):
    def change(file):
        group = file if name in file else file["metadata"]
        del group[name]
        if value is not None:
            group[name] = value

    return change  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_replace("methylation", None), "no methylation or mixed_methylation.*got methylation: N"),
        (_replace("methylation", np.zeros((5, 7))), "no methylation or mixed_methylation"),
        (_replace("methylation", np.zeros((5, 7, 4))), "no methylation or mixed_methylation"),
        (_replace("methylation", np.zeros((0, 7, 4), np.uint8)), "no methylation or mixed"),
        (_replace("methylation", np.full((5, 7, 4), 3, np.uint8)), "another value; got 3"),
        (_replace("methylation", np.zeros((5, 8, 4), np.uint8)), "another number of regions tha"),
        (_replace("tissue_labels", None), "no tissue_labels; got metadata, methylation"),
        (_replace("tissue_labels", [0, 1, 2, 0, 0]), "a label is of no tissue; got 2"),
        (_replace("tissue_labels", [0, 1]), "tissue_labels are not a whole number a sample"),
        (_replace("tissue_labels", [0.5] * 5), "tissue_labels are not a whole number a sample"),
        (_replace("sample_names", ["a"]), "not a name a sample; got 1; expected 5"),
        (_replace("sample_names", ["a"] * 5), "a sample comes twice; got Blood-a"),
        (_replace("aug_versions", None), "no aug_versions"),
    ],
)
def test_files_of_another_layout_are_refused(tmp_path, change, message):
    path = write_pure(tmp_path / "pure.h5", *example(np.random.default_rng(0)))
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises((InputError, MismatchError), match=message) as caught:
        read_counts(path, regions=panel(7))
    assert "pure.h5" in str(caught.value)


@pytest.mark.parametrize(
    ("means", "proportions", "message"),
    [
        ([[0.5, 1.5]], [[0.5, 0.5]], "a mean is no fraction"),
        ([[0.5, 0.5]], [[0.5, 0.6]], "proportions do not add up to 1; got 1.1"),
        ([[0.5, 0.5]], [[1.5, -0.5]], "proportions do not add up to 1"),
        ([[0.5, 0.5]], [[0.2, 0.3, 0.5]], "not a proportion of each tissue"),
    ],
)
def test_impossible_mixtures_are_refused(tmp_path, means, proportions, message):
    path = write_mixtures(tmp_path / "mix.h5", np.array(means, dtype=np.float32), proportions)
    with pytest.raises(InputError, match=message):
        read_counts(path, regions=panel(2))


def test_truncated_file_is_refused(tmp_path):
    path = write_pure(tmp_path / "pure.h5", *example(np.random.default_rng(0)))
    whole = path.read_bytes()
    for length in (20, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"damaged|content is not"):
            read_counts(path, regions=panel(7))
