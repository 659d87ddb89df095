"""Readers of damaged files: a DeconvError or the right answer, never anything else.

The example of each format is changed four times in a row (`CHANGES` in
`tests/plugins/damaged_files.py`), and read after each: cut, overwritten, columns swapped or
separated otherwise, lines lost, repeated or with other ends, numbers replaced by odd ones; some
are packed, and the packed bytes cut or flipped. What a second, plain implementation makes of the
same bytes is the right answer; where that says that the file breaks its spec, the reader has to
refuse it, and where it does not, it may.

Each reader but those of HDF5 sees 10,000 files; atlases and region sets, whose readers share all
their parsing with those of tables, 2,000. HDF5 takes longer, so these see 200, and only such
changes as libhdf5 cannot hang on: it may loop on damaged pointers of its own, which is out of
our hands, so those files are cut off and their tables are changed.
"""

import gzip
from collections import Counter

import h5py
import numpy as np
import pytest
from damaged_files import CHANGES, change, no_hang, number, pack, packing
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from naive_readers import NAIVE, NAIVE_ATLASES, naive_regions
from reader_examples import EXAMPLES, REGIONS

from deconv.errors import DeconvError
from deconv.formats import FORMATS, find_format, read_counts
from deconv.formats.array_csv import read_array_atlas
from deconv.formats.atlas_tables import read_means
from deconv.formats.region_file import read_regions
from deconv.formats.uxm_atlas import read_uxm_atlas

BY_NAME = {f.name: f for f in FORMATS}
TEXT = [e for e in EXAMPLES if not callable(e.content)]
N_CASES = 10_000
N_FILES = 4  # of a case of hypothesis: each change of its list makes another file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def _accepted(read, path):
    """Return what a reader gives, None if it refuses. Anything but a DeconvError gets through."""
    message = ""
    try:
        with no_hang():
            return read(path)
    except DeconvError as error:
        message = str(error)
    assert str(path) in message
    return None


def _check(example, path, packed):
    """Read a file and compare; returns whether it was accepted."""
    regions = REGIONS if example.regions is not None else None
    counts = _accepted(
        lambda path: read_counts(path, regions=regions, options=example.options), path
    )
    if counts is None:
        return False
    raw = path.read_bytes()
    note(f"{packed}: {raw!r}")
    assert packed not in ("cut", "junk")
    content = gzip.decompress(raw) if packed != "plain" else raw
    right = NAIVE[find_format(path).name](content, counts.regions, example.options)
    assert counts.samples.index.tolist() == (right[2] or example.samples)
    assert (counts.methylated.tolist(), counts.coverage.tolist()) == right[:2]
    return True


def _fuzz(check_file, folder, file, content, compress, n_cases):
    outcome = Counter()

    @settings(
        max_examples=n_cases // N_FILES, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        st.lists(change, min_size=N_FILES, max_size=N_FILES),
        st.lists(packing, min_size=N_FILES, max_size=N_FILES),
        number,
    )
    def check(changes, packings, a):
        data = content
        for (name, x, y), packed in zip(changes, packings, strict=True):
            data = CHANGES[name](data, x, y)
            path = folder / (file + ".gz" * (packed != "plain"))
            path.write_bytes(pack(compress, data, packed, a))
            outcome[check_file(path, packed)] += 1

    check()
    assert outcome.total() >= n_cases
    # Neither does the reader refuse all, nor do the changes leave the files as they are.
    assert min(outcome[True], outcome[False]) > n_cases // 50


@pytest.mark.parametrize("example", TEXT, ids=[e.file for e in TEXT])
def test_damaged_file_is_refused_or_read_right(example, folder):
    _fuzz(
        lambda path, packed: _check(example, path, packed),
        folder, example.file, example.content, example.pack, N_CASES,
    )  # fmt: skip


def _profiles(atlas):
    return atlas.tissues, atlas.regions.names.tolist(), atlas.mean


ATLASES = {
    "means.tsv": (
        lambda path: _profiles(read_means(path, build="hg38").atlas),
        b"chr\tstart\tend\tliver\tlung\nchr1\t10\t20\t0.25\tNA\nchr2\t5\t9\t1\t0.5\n",
    ),
    "uxm.tsv": (
        lambda path: _profiles(read_uxm_atlas(path, build="hg38").atlas),
        b"chr\tstart\tend\tstartCpG\tendCpG\ttarget\tname\tdirection\tliver\tlung\n"
        b"chr1\t10\t40\t1\t5\tliver\tx\tU\t0.25\tNA\nchr2\t5\t29\t7\t9\tlung\ty\tM\t1\t0.5\n",
    ),
    "array.csv": (
        lambda path: _profiles(read_array_atlas(path)),
        b"CpGs,liver,lung\ncg00000029,0.25,1\nrs10,0.5,0.5\ncg00000108_TC11,NA,0.5\n",
    ),
}


@pytest.mark.parametrize("file", sorted(ATLASES))
def test_damaged_atlas_is_refused_or_read_right(file, folder):
    read, content = ATLASES[file]

    def check(path, packed):
        found = _accepted(read, path)
        if found is None:
            return False
        raw = path.read_bytes()
        note(f"{packed}: {raw!r}")
        assert packed not in ("cut", "junk")
        tissues, names, means = NAIVE_ATLASES[file](
            gzip.decompress(raw) if packed != "plain" else raw
        )
        assert (list(found[0]), found[1]) == (tissues, names)
        np.testing.assert_allclose(found[2], means, atol=1e-6)
        return True

    _fuzz(check, folder, file, content, gzip.compress, 2_000)


def test_damaged_region_set_is_refused_or_read_right(folder):
    content = b"#chr\tstart\tend\tstartCpG\tendCpG\nchr1\t10\t40\t1\t5\nchr2\t5\t29\t7\t9\n"

    def check(path, packed):
        regions = _accepted(lambda path: read_regions(path, build="hg38"), path)
        if regions is None:
            return False
        raw = path.read_bytes()
        note(f"{packed}: {raw!r}")
        assert packed not in ("cut", "junk")
        names, indices = naive_regions(gzip.decompress(raw) if packed != "plain" else raw)
        assert regions.names.tolist() == names
        known = regions.start_cpg is not None
        assert indices == (
            list(zip(regions.start_cpg.tolist(), regions.end_cpg.tolist(), strict=True))
            if known else None
        )  # fmt: skip
        return True

    _fuzz(check, folder, "regions.bed", content, gzip.compress, 2_000)


HDF5 = [e for e in EXAMPLES if callable(e.content)]


@pytest.mark.parametrize("example", HDF5, ids=[e.file for e in HDF5])
def test_damaged_hdf5_is_refused_or_read_right(example, folder):
    path = example.write(folder)
    whole = path.read_bytes()
    outcome = Counter()

    @settings(
        max_examples=200, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.sampled_from(["cut", "drop", "replace", "replace", "attribute"]), number, number)
    def check(kind, a, b):
        path.write_bytes(whole[: a * len(whole) // 4001] if kind == "cut" else whole)
        if kind != "cut":
            with h5py.File(path, "r+") as file:
                _damage_table(file, kind, a, b)
        counts = _accepted(
            lambda path: read_counts(path, regions=example.regions, options=example.options), path
        )
        note(f"{kind} {a} {b}")
        outcome[counts is not None] += 1
        if counts is not None:  # a change of nothing that counts
            assert counts.methylated.tolist() == example.methylated
            assert counts.coverage.tolist() == example.coverage

    check()
    assert outcome[False] > 100


def _damage_table(file, kind, a, b):
    """Remove or replace one of the file's tables, or an attribute."""
    names = []
    file.visit(names.append)
    name = sorted(names)[a % len(names)]
    if kind == "attribute":
        attributes = file[name].attrs
        if len(attributes):
            attributes[sorted(attributes)[b % len(attributes)]] = ["x", -1, 2.5][b % 3]
        return
    if "patterns" in name or name == "methylation":
        kind = "drop"  # other counts would be right of another file
    del file[name]
    if kind == "replace":
        odd = [0, -1, 2.5, "x", [1, 2, 3], [[1.0, 2.0]], np.zeros((0, 3)), ["a", "b"], b"\xff"]
        file[name] = odd[b % len(odd)]


def test_every_format_is_fuzzed():
    assert {e.format for e in TEXT} == set(NAIVE)
    assert set(BY_NAME) == {e.format for e in EXAMPLES}
