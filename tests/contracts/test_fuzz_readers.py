"""Readers of damaged files: a DeconvError or the right answer, never anything else.

The example of each format is changed in up to three ways (`_CHANGES`): cut, overwritten,
columns swapped or separated otherwise, lines lost, repeated or with other ends, numbers
replaced by odd ones; some are packed, and the packed bytes cut or flipped. What a second, plain
implementation makes of the same bytes is the right answer; where that says that the file
breaks its spec, the reader has to refuse it, and where it does not, it may.

Each text reader sees 10,000 files. Fewer see those of HDF5, which take longer, and only such
changes as libhdf5 cannot hang on: it may loop on damaged pointers of its own, which is out of
our hands, so those files are cut off and their tables changed.
"""

import gzip
import signal
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from naive_readers import NAIVE
from reader_examples import EXAMPLES, REGIONS

from deconv.errors import DeconvError
from deconv.formats import FORMATS, read_counts

BY_NAME = {f.name: f for f in FORMATS}
TEXT = [e for e in EXAMPLES if not callable(e.content)]
N_CASES = 10_000
ODD = [
    b"", b" ", b"0", b"-1", b"1e3", b"2147483648", b"99999999999999999999", b"9" * 400, b"nan",
    b"NA", b"inf", b"0x1f", b"+5", b"1_0", b"1.5", b"100", b"0.5", b"1.0000001", b"\xd9\xa3",
    b"chr1", b"chr2", b"-", b"+", b".", b"\x00", b"\xff\xfe", b"a b", b'"3"', b'"', b"CG", b"m",
]  # fmt: skip
"""What a field may become."""


def _lines(change):
    """Make a change of the list of lines into one of the bytes."""

    def of_bytes(data, a, b):
        lines = data.split(b"\n")
        return b"\n".join(change(lines, a % len(lines), b))

    return of_bytes


def _fields(change):
    """Make a change of one line's fields into one of the bytes."""

    def of_lines(lines, a, b):
        separator = b"," if b"\t" not in lines[a] else b"\t"
        lines[a] = separator.join(change(lines[a].split(separator), b))
        return lines

    return _lines(of_lines)


def _swap_columns(lines, a, b):
    separator = b"," if b"\t" not in lines[0] else b"\t"
    rows = [line.split(separator) for line in lines]
    for row in rows:
        if len(row) > 1:
            i, j = a % len(row), b % len(row)
            row[i], row[j] = row[j], row[i]
    return [separator.join(row) for row in rows]


def _swap(items, i, j):
    items[i], items[j % len(items)] = items[j % len(items)], items[i]
    return items


def _set(items, b):
    items[b % len(items)] = ODD[b // len(items) % len(ODD)]
    return items


_CHANGES = {
    "cut": lambda data, a, b: data[: a % (len(data) + 1)],
    "lose the beginning": lambda data, a, b: data[a % (len(data) + 1) :],
    "lose bytes": lambda data, a, b: data[: a % (len(data) + 1)] + data[(a + b % 9) % 999 :],
    "insert a byte": lambda data, a, b: (
        data[: a % (len(data) + 1)] + bytes([b % 256]) + data[a % (len(data) + 1) :]
    ),
    "binary junk": lambda data, a, b: data + np.random.default_rng(a).bytes(b % 64),
    "flip a bit": lambda data, a, b: (
        bytes([*data[: a % len(data)], data[a % len(data)] ^ (1 << b % 8)])
        + data[a % len(data) + 1 :]
        if data
        else data
    ),
    "swap columns": _lines(_swap_columns),
    "swap two fields": _fields(lambda fields, b: _swap(fields, b % len(fields), b // 7)),
    "odd field": _fields(_set),
    "odd field too": _fields(_set),
    "lose a field": _fields(lambda fields, b: [f for i, f in enumerate(fields) if i != b % 20]),
    "one more field": _fields(lambda fields, b: [*fields, ODD[b % len(ODD)]]),
    "empty line": _lines(lambda lines, a, b: [*lines[:a], b"", *lines[a:]]),
    "repeat a line": _lines(lambda lines, a, b: [*lines[:a], lines[a], *lines[a:]]),
    "lose a line": _lines(lambda lines, a, b: lines[:a] + lines[a + 1 :]),
    "swap lines": _lines(_swap),
    "Windows": lambda data, a, b: data.replace(b"\n", b"\r\n"),
    "Windows once": lambda data, a, b: data.replace(b"\n", b"\r\n", a % 4),
    "old Macintosh": lambda data, a, b: data.replace(b"\n", b"\r"),
    "no last line end": lambda data, a, b: data.rstrip(b"\n"),
    "spaces for tabs": lambda data, a, b: data.replace(b"\t", b" "),
    "a space for a tab": _fields(
        lambda fields, b: [b" ".join(fields[:2]), *fields[2:]] if b % 2 else fields
    ),
    "double tabs": lambda data, a, b: data.replace(b"\t", b"\t\t", a % 3),
    "semicolons": lambda data, a, b: data.replace(b",", b";").replace(b"\t", b","),
    "byte order mark": lambda data, a, b: b"\xef\xbb\xbf" + data,
    "chromosome without chr": lambda data, a, b: data.replace(b"chr", b""),
}
_number = st.integers(0, 4000)
_change = st.tuples(st.sampled_from(sorted(_CHANGES)), _number, _number)
_packing = st.sampled_from(["plain"] * 6 + ["gzip", "gzip", "cut", "flip", "junk", "twice"])


def _pack(example, content, packing, a):
    if packing == "plain":
        return content
    packed = example.pack(content)
    if packing == "cut":
        return packed[: a % len(packed)]
    if packing == "flip":
        return _CHANGES["flip a bit"](packed, a, a // 8)
    return packed + {"junk": b"junk", "twice": packed}.get(packing, b"")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@contextmanager
def _no_hang():
    """Turn a reader that does not come back into a failure; a reader needs milliseconds."""

    def stop(*_):
        raise TimeoutError("the reader hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _check(example, path, content, packing):
    """Read a file; returns whether it was accepted. Anything but a DeconvError gets through."""
    regions = REGIONS if example.regions is not None else None
    try:
        with _no_hang():
            counts = read_counts(path, regions=regions, options=example.options)
    except DeconvError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert str(path) in message
        return False
    assert packing not in ("cut", "junk")
    raw = path.read_bytes()
    content = gzip.decompress(raw) if packing != "plain" else raw
    right = NAIVE[example.format](content, counts.regions, example.options)
    assert counts.samples.index.tolist() == (right[2] or example.samples)
    assert (counts.methylated.tolist(), counts.coverage.tolist()) == right[:2]
    return True


@pytest.mark.parametrize("example", TEXT, ids=[e.file for e in TEXT])
def test_damaged_text_is_refused_or_read_right(example, folder):
    outcome = Counter()

    @settings(
        max_examples=N_CASES, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.lists(_change, max_size=3), _packing, _number)
    def check(changes, packing, a):
        content = example.content
        for name, x, y in changes:
            content = _CHANGES[name](content, x, y)
        content = _pack(example, content, packing, a)
        note(f"{packing}: {content!r}")
        path = folder / (example.file + ".gz" * (packing != "plain"))
        path.write_bytes(content)
        outcome[_check(example, path, content, packing)] += 1

    check()
    # Neither does the reader refuse all, nor do the changes leave the files as they are.
    assert min(outcome[True], outcome[False]) > N_CASES // 50


def test_every_text_format_is_fuzzed():
    assert {e.format for e in TEXT} == set(NAIVE)
