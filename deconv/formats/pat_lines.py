"""Lines of ``.pat.gz`` files as arrays: a part of the file at a time, in bounded memory.

See `deconv.formats.pat` for the format. No line is handled by itself: fields are positions
in the part's bytes, and numbers are read digit by digit for all lines at once.

Shape letters: L = lines in a part of the file, B = its bytes.
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8

from deconv.errors import InputError
from deconv.files import require_file

_PART_BYTES = 1 << 21
_MAX_DIGITS = 10
_MAX_NAME = 64  # letters of a chromosome; more means that the file is something else
_BGZF_START = (b"\x1f\x8b\x08\x04", b"BC")  # at bytes 0 and 12: gzip with bgzip's extra field
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_COLUMNS = "chrom, CpG index, pattern and count, separated by tabs"


@dataclass(frozen=True, eq=False)
class Lines:
    """Consecutive lines of a file.

    Attributes
    ----------
    text
        Their bytes; the pattern of a line is ``text[pattern_start:pattern_end]``.
    first
        Number of the first of them in the file, from 1; 0 if that is not known.
    start
        Where each begins in ``text``.
    names, chrom
        Chromosome names, and which of them each line has.
    index, count
        CpG index and number of reads.
    """

    text: UInt8[np.ndarray, " B"]
    first: int
    start: Int[np.ndarray, " L"]
    names: np.ndarray
    chrom: Int[np.ndarray, " L"]
    index: Int[np.ndarray, " L"]
    pattern_start: Int[np.ndarray, " L"]
    pattern_end: Int[np.ndarray, " L"]
    count: Int[np.ndarray, " L"]

    def refuse(self, bad: Bool[np.ndarray, " L"], what: str, path: Path, expected: str) -> None:
        """Raise an error about the first bad line, if there is one."""
        _refuse(bad, what, path, self.first, self.text, self.start, expected)

    def place(self, line: int, path: Path) -> str:
        """Return what to call one of the lines in an error."""
        return _place(path, self.first, line)


def read_lines(path: Path) -> Iterator[Lines]:
    """Yield all lines, checked but for the letters of the patterns.

    Raises
    ------
    InputError
        With file and line, if the file is not whole or not packed by bgzip, or a line has too few
        columns, a number that is none or a place before that of the line before.
    """
    n_lines, last = 0, 0
    for block in _whole_lines(path):
        lines = parse(block, n_lines + 1, path)
        back = np.diff(lines.index, prepend=last) < 0
        lines.refuse(back, "not sorted by CpG index", path, "no index below the line before's")
        n_lines, last = n_lines + len(lines.start), int(lines.index[-1])
        yield lines
    if not n_lines:
        raise InputError("the file has no lines", where=path)


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield about `_PART_BYTES` at a time, ending with a line."""
    require_file(path)
    is_packed = path.suffix.lower() == ".gz"
    if is_packed:
        check_bgzip(path)
    rest = b""
    try:
        with gzip.open(path) if is_packed else path.open("rb") as file:
            while part := file.read(_PART_BYTES):
                rest += part
                cut = rest.rfind(b"\n") + 1
                if cut:
                    yield rest[:cut]
                    rest = rest[cut:]
                elif len(rest) > _PART_BYTES:
                    raise InputError(
                        "not lines", where=path, got=f"{len(rest)} bytes without a line end"
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            "the file is damaged or cut off", where=path, got=error, expected="whole bgzip blocks"
        ) from error
    if rest:
        yield rest + b"\n"


def check_bgzip(path: Path) -> None:
    """Refuse a file that bgzip did not make, or that has no end.

    Raises
    ------
    InputError
        Which of the two.
    """
    with path.open("rb") as file:
        head = file.read(14)
        if not head.startswith(_BGZF_START[0]) or head[12:] != _BGZF_START[1]:
            kind = "plain gzip" if head.startswith(_BGZF_START[0][:2]) else repr(head[:4])
            raise InputError("not bgzip", where=path, got=kind, expected="a file made by bgzip")
        file.seek(max(path.stat().st_size - len(_BGZF_END), 0))
        if file.read() != _BGZF_END:
            raise InputError(
                "the file is cut off", where=path, got="no end marker",
                expected="bgzip's empty last block",
            )  # fmt: skip


def parse(block: bytes, first: int, path: Path) -> Lines:
    """Return whole lines as arrays; ``first`` is the number of the first, 0 if not known."""
    text = np.frombuffer(block, dtype=np.uint8)
    line_end = np.flatnonzero(text == ord("\n"))
    start = np.concatenate([[0], line_end[:-1] + 1])
    tabs = np.flatnonzero(text == ord("\t"))
    first_tab = np.searchsorted(tabs, start)
    n_tabs = np.diff(first_tab, append=len(tabs))
    _refuse(n_tabs < 3, "too few columns", path, first, text, start, _COLUMNS)
    tab = tabs[first_tab[:, None] + np.arange(3)].T
    # A fourth tab ends the count where more columns follow.
    fourth = np.append(tabs, 0)[np.minimum(first_tab + 3, len(tabs))]
    count_end = np.where(n_tabs > 3, fourth, line_end)
    name_length = tab[0] - start
    bad = (name_length < 1) | (name_length > _MAX_NAME) | (tab[2] == tab[1] + 1)
    _refuse(bad, "no chromosome or no pattern", path, first, text, start, _COLUMNS)
    index = _positive(text, tab[0] + 1, tab[1])
    _refuse(index == 0, "not a CpG index", path, first, text, start, "a whole number from 1")
    count = _positive(text, tab[2] + 1, count_end)
    _refuse(count == 0, "not a count", path, first, text, start, "a whole number from 1")
    names, chrom = _chromosomes(text, start, name_length)
    return Lines(text, first, start, names, chrom, index, tab[1] + 1, tab[2], count)


def _positive(
    text: UInt8[np.ndarray, " B"], begin: Int[np.ndarray, " L"], end: Int[np.ndarray, " L"]
) -> Int[np.ndarray, " L"]:
    """Return the numbers written at these places, 0 where there is no positive one."""
    n_digits = end - begin
    bad = (n_digits < 1) | (n_digits > _MAX_DIGITS)
    value = np.zeros(len(begin), dtype=np.int64)
    for k in range(min(int(n_digits.max()), _MAX_DIGITS)):
        inside = k < n_digits
        # Unsigned: what comes before "0" in ASCII turns into a large number.
        digit = text[np.minimum(begin + k, len(text) - 1)] - np.uint8(ord("0"))
        bad |= inside & (digit > 9)
        value = np.where(inside, 10 * value + digit, value)
    return np.where(bad, 0, value)


def _chromosomes(
    text: UInt8[np.ndarray, " B"], start: Int[np.ndarray, " L"], length: Int[np.ndarray, " L"]
) -> tuple[np.ndarray, Int[np.ndarray, " L"]]:
    """Return the names of runs of lines with the same one, and each line's run."""
    alike = length[1:] == length[:-1]
    for k in range(int(length.max())):
        inside = k < length[1:]
        alike &= ~inside | (text[np.minimum(start[1:] + k, len(text) - 1)] == text[start[:-1] + k])
    run = np.concatenate([[0], np.cumsum(~alike)])
    firsts = np.flatnonzero(np.diff(run, prepend=-1))
    names = [text[start[i] :][: length[i]].tobytes().decode(errors="replace") for i in firsts]
    return np.array(names), run


def _place(path: Path, first: int, row: int) -> str:
    return f"{path}, line {first + row}" if first else str(path)


def _refuse(
    bad: Bool[np.ndarray, " L"],
    what: str,
    path: Path,
    first: int,
    text: UInt8[np.ndarray, " B"],
    start: Int[np.ndarray, " L"],
    expected: str,
) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        line = text[start[rows[0]] :][:200].tobytes().split(b"\n")[0]
        raise InputError(
            what, where=_place(path, first, int(rows[0])),
            got=repr(line.decode(errors="replace")), expected=expected,
        )  # fmt: skip
