"""Ways to damage a file, each of bytes and two numbers, and what runs a reader on the results."""

import shutil
import signal
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deconv.errors import DeconvError

N_CASES = 10_000
N_FILES = 4  # of a case of hypothesis: each change of its list makes another file

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


CHANGES = {
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
number = st.integers(0, 4000)
change = st.tuples(st.sampled_from(sorted(CHANGES)), number, number)
packing = st.sampled_from(["plain"] * 6 + ["gzip", "gzip", "cut", "flip", "junk", "twice"])


def pack(compress, content, packing, a):
    if packing == "plain":
        return content
    packed = compress(content)
    if packing == "cut":
        return packed[: a % len(packed)]
    if packing == "flip":
        return CHANGES["flip a bit"](packed, a, a // 8)
    return packed + {"junk": b"junk", "twice": packed}.get(packing, b"")


@contextmanager
def no_hang():
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


@contextmanager
def quick_folder():
    """Yield a folder, in memory where that can be: a disk takes longer than the readers."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def accepted(read, path):
    """Return what a reader gives, None if it refuses. Anything but a DeconvError gets through."""
    message = ""
    try:
        with no_hang():
            return read(path)
    except DeconvError as error:
        message = str(error)
    assert str(path) in message
    return None


def many(n):
    """Settings of a test with so many cases, the same ones each time."""
    return settings(
        max_examples=n, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def fuzz(check_file, file, content, compress, n_cases=N_CASES):
    """Read damaged files; ``check_file`` takes path and packing and says whether it was read."""
    outcome = Counter()

    @many(n_cases // N_FILES)
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

    with quick_folder() as folder:
        check()
    assert outcome.total() >= n_cases
    # Neither does the reader refuse all, nor do the changes leave the files as they are.
    assert min(outcome[True], outcome[False]) > n_cases // 50
