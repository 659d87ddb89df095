"""Readers of damaged files: a DeconvError or the right answer, never anything else.

The example of each format is changed four times in a row (`CHANGES` in
`tests/plugins/damaged_files.py`), and read after each: cut, overwritten, columns swapped or
separated otherwise, lines lost, repeated or with other ends, numbers replaced by odd ones; some
are packed, and the packed bytes cut or flipped. What a second, plain implementation makes of the
same bytes is the right answer; where that says that the file breaks its spec, the reader has to
refuse it, and where it does not, it may.

Each reader sees 10,000 files of each kind, those of HDF5 in `test_fuzz_hdf5.py`, and so do those
of atlases of means and of region sets (`test_fuzz_references.py`).
"""

import gzip

import pytest
from damaged_files import accepted, fuzz
from hypothesis import note
from naive_readers import NAIVE
from reader_examples import EXAMPLES

from deconv.formats import FORMATS, find_format, read_counts

BY_NAME = {f.name: f for f in FORMATS}
TEXT = [e for e in EXAMPLES if not callable(e.content)]


def _check(example, path, packed):
    """Read a file and compare; returns whether it was accepted."""
    counts = accepted(
        lambda path: read_counts(path, regions=example.regions, options=example.options), path
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


@pytest.mark.parametrize("example", TEXT, ids=[e.file for e in TEXT])
def test_damaged_file_is_refused_or_read_right(example):
    fuzz(
        lambda path, packed: _check(example, path, packed),
        example.file, example.content, example.pack,
    )  # fmt: skip


def test_every_format_is_fuzzed():
    assert {e.format for e in TEXT} == set(NAIVE)
    assert set(BY_NAME) == {e.format for e in EXAMPLES}
