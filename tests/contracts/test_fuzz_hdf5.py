"""Damaged HDF5: a DeconvError or the right answer, 10,000 files of each format.

They are cut off, get junk at their end, and their tables, values and attributes are lost or
replaced. Their bytes are not: libhdf5 may loop on damaged pointers of its own, which is out of
our hands. An ``.h5ad`` states the hash of its content, so what is read has to be what was
written; a file of the earlier attempt does not, so h5py and plain NumPy say what is right.
"""

from collections import Counter

import h5py
import numpy as np
import pytest
from damaged_files import accepted, many, number, quick_folder
from hypothesis import given, note
from hypothesis import strategies as st
from reader_examples import EXAMPLES

from deconv.formats import read_counts

N_CASES = 10_000
N_FILES = 20  # of a case of hypothesis
KINDS = [
    *["cut"] * 4,
    "junk",
    "drop",
    "drop",
    *["replace"] * 3,
    "attribute",
    "value",
    *["swap"] * 2,
]
ODD = [0, -1, 2.5, "x", [1, 2, 3], [[1.0, 2.0]], np.zeros((0, 3)), ["a", "b"], b"\xff"]
VALUES = [0, 1, 2, 3, -1, 255, 2**31 - 1, float("nan"), float("inf"), 1e300]
HDF5 = [e for e in EXAMPLES if callable(e.content)]


def _damage(path, whole, kind, a, b):
    path.unlink()  # an open file that was accepted keeps its own
    content = whole[: a * len(whole) // 4001] if kind == "cut" else whole
    path.write_bytes(content + (b"junk" * (b % 99) if kind == "junk" else b""))
    if kind not in ("cut", "junk"):
        with h5py.File(path, "r+") as file:
            _damage_table(file, kind, a, b)


def _damage_table(file, kind, a, b):
    names = []
    file.visit(names.append)
    if kind == "attribute":
        names = [n for n in [*names, "/"] if len(file[n].attrs)]
        if not names:
            return
    if kind == "value":
        names = [n for n in names if isinstance(file[n], h5py.Dataset) and _has_numbers(file[n])]
    name = sorted(names)[a % len(names)]
    item = file[name]
    if kind == "attribute":
        item.attrs[sorted(item.attrs)[b % len(item.attrs)]] = ["x", -1, 2.5][b % 3]
    elif kind == "value":
        values = item[()]
        with np.errstate(invalid="ignore", over="ignore"):
            odd = np.array(VALUES[b % len(VALUES)]).astype(item.dtype)
        np.ravel(values)[a % item.size] = odd  # a view of what was read
        item[...] = values
    elif kind == "swap":
        other = sorted(names)[b % len(names)]
        if not (other + "/").startswith(name + "/") and not (name + "/").startswith(other + "/"):
            file.move(name, "spare")
            file.move(other, name)
            file.move("spare", other)
    else:
        del file[name]
        if kind == "replace":
            file[name] = ODD[b % len(ODD)]


def _has_numbers(dataset):
    return dataset.dtype.kind in "iuf" and dataset.ndim > 0


def _right(path, example):
    """Return what a file's counts are."""
    if path.suffix == ".h5ad":
        return example.methylated, example.coverage
    with h5py.File(path) as file:
        if "mixed_methylation" in file:
            means = file["mixed_methylation"][()].astype(float)
            seen = means == means
            n = example.options.pseudo_coverage
            return np.rint(n * np.where(seen, means, 0)).tolist(), (n * seen).tolist()
        patterns = file["methylation"][()]
    return (patterns == 1).sum(axis=2).tolist(), (patterns < 2).sum(axis=2).tolist()


@pytest.mark.parametrize("example", HDF5, ids=[e.file for e in HDF5])
def test_damaged_hdf5_is_refused_or_read_right(example):
    outcome = Counter()

    @many(N_CASES // N_FILES)
    @given(
        st.lists(st.sampled_from(KINDS), min_size=N_FILES, max_size=N_FILES),
        st.lists(st.tuples(number, number), min_size=N_FILES, max_size=N_FILES),
    )
    def check(kinds, pairs):
        for kind, (a, b) in zip(kinds, pairs, strict=True):
            _damage(path, whole, kind, a, b)
            counts = accepted(
                lambda path: read_counts(path, regions=example.regions, options=example.options),
                path,
            )
            note(f"{kind} {a} {b}")
            outcome[kind, counts is not None] += 1
            if counts is not None:
                assert (counts.methylated.tolist(), counts.coverage.tolist()) == _right(
                    path, example
                )
                if counts.proportions is not None:
                    with h5py.File(path) as file:
                        true = file["true_proportions"][()]
                    assert counts.proportions.to_numpy().tolist() == true.tolist()

    with quick_folder() as folder:
        path = example.write(folder)
        whole = path.read_bytes()
        check()
    assert outcome.total() >= N_CASES
    assert outcome["cut", True] == 0
    assert outcome["junk", False] == 0
    for kind in ("drop", "replace", "value", "swap"):
        assert outcome[kind, False] > N_CASES // 200, kind
