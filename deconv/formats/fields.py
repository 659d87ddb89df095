"""Columns of headerless text tables as arrays, compiled: millions of lines a second.

A block of lines is cut into fields once; numbers and words are then read from where the
fields lie, for all lines at once, and refused with file and line where they are none.

Shape letters: L = lines of a block, B = its bytes, K = columns that are asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Bool, Float64, Int, Int32, Int64, UInt8

from deconv.counts import MAX_COUNT
from deconv.errors import InputError
from deconv.formats.field_kernels import (
    cut,
    find_changes,
    find_words,
    read_decimals,
    read_integers,
)
from deconv.formats.text_blocks import whole_lines

_MAX_NAME = 64  # letters of a chromosome; more means that the file is something else


@dataclass(frozen=True, eq=False)
class Fields:
    """Consecutive lines of a file, cut into the columns that are asked for.

    Attributes
    ----------
    text
        Their bytes; field k of line i is ``text[begin[k, i]:end[k, i]]``.
    first
        Number of the first of them in the file, from 1; 0 where that is not known.
    start
        Where each begins in ``text``.
    names
        What the columns are called, for errors and as the key of the methods below.
    """

    path: Path
    text: UInt8[np.ndarray, " B"]
    first: int
    start: Int32[np.ndarray, " L"]
    names: tuple[str, ...]
    begin: Int32[np.ndarray, "K L"]
    end: Int32[np.ndarray, "K L"]

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self.start)

    def integers(self, name: str, *, at_most: int = MAX_COUNT) -> Int64[np.ndarray, " L"]:
        """Return a column of whole numbers from 0 on; an InputError names the line without."""
        k = self.names.index(name)
        values = np.empty(len(self), np.int64)
        read_integers(self.text, self.begin[k], self.end[k], values)
        self.refuse(
            (values < 0) | (values > at_most), f"{name} is no whole number from 0 to {at_most}"
        )
        return values

    def decimals(self, name: str, *, at_most: float) -> Float64[np.ndarray, " L"]:
        """Return a column of numbers from 0 on, written without an exponent."""
        k = self.names.index(name)
        values = np.empty(len(self))
        read_decimals(self.text, self.begin[k], self.end[k], values)
        self.refuse(~(values <= at_most), f"{name} is no number from 0 to {at_most:g}")
        return values

    def words(self, name: str, known: Sequence[bytes]) -> Int[np.ndarray, " L"]:
        """Return which of the known words a column has; -1 where it has another."""
        k = self.names.index(name)
        stop = np.cumsum([len(word) for word in known])
        found = np.empty(len(self), np.int64)
        letters = np.frombuffer(b"".join(known), dtype=np.uint8)
        find_words(self.text, self.begin[k], self.end[k], letters, stop, found)
        return found

    def letters(self, name: str, length: int) -> UInt8[np.ndarray, "length L"]:
        """Return the letters of a column of words of one length; others are refused."""
        k = self.names.index(name)
        self.refuse(self.end[k] - self.begin[k] != length, f"{name} has not {length} letters")
        return np.asarray(self.text[self.begin[k] + np.arange(length)[:, None]])

    def runs(self, name: str) -> Iterator[tuple[str, slice]]:
        """Yield neighbouring lines that have the same name in a column.

        Raises
        ------
        InputError
            If a name is empty, long or has other than visible ASCII letters.
        """
        k = self.names.index(name)
        is_new = np.empty(len(self), np.bool_)
        find_changes(self.text, self.begin[k], self.end[k], is_new)
        firsts = np.flatnonzero(is_new)
        for first, after in zip(firsts, [*firsts[1:], len(self)], strict=True):
            word = self.text[self.begin[k, first] : self.end[k, first]].tobytes()
            if not 0 < len(word) <= _MAX_NAME or min(word) <= ord(" ") or max(word) > ord("~"):
                self.refuse_row(int(first), f"{name} is no name")
            yield word.decode("ascii"), slice(int(first), int(after))

    def refuse(self, bad: Bool[np.ndarray, " L"], what: str, expected: str | None = None) -> None:
        """Raise an InputError about the first bad line, if there is one."""
        if bad.any():
            self.refuse_row(int(np.argmax(bad)), what, expected)

    def refuse_row(self, row: int, what: str, expected: str | None = None) -> NoReturn:
        """Raise an InputError about a line."""
        line = self.text[self.start[row] :][:200].tobytes().split(b"\n")[0]
        raise InputError(
            what, where=self.place(row),
            got=repr(line.decode(errors="replace")), expected=expected,
        )  # fmt: skip

    def place(self, row: int) -> str:
        """Return what to call a line in an error."""
        return f"{self.path}, line {self.first + row}" if self.first else str(self.path)


def cut_lines(
    path: Path, block: bytes, columns: dict[int, str], *, spaces: bool = False, first: int = 0
) -> tuple[Fields, Int32[np.ndarray, " L"]]:
    """Cut whole lines into the columns asked for; returns how many each has, too."""
    text = np.frombuffer(block, dtype=np.uint8)
    slot = np.full(max(columns) + 1, -1)
    slot[list(columns)] = np.arange(len(columns))
    n_lines = block.count(b"\n")
    begin, end = np.zeros((2, len(columns), n_lines), np.int32)
    start, n_fields = np.zeros((2, n_lines), np.int32)
    cut(text, slot, spaces, begin, end, start, n_fields)
    return Fields(path, text, first, start, tuple(columns.values()), begin, end), n_fields


def read_fields(
    path: Path,
    columns: dict[int, str],
    n_columns: int,
    *,
    expected: str,
    spaces: bool = False,
    n_header: int = 0,
) -> Iterator[Fields]:
    """Yield all lines of a file, cut into columns.

    Parameters
    ----------
    columns
        Position, from 0, and name of those that are asked for.
    n_columns
        How many each line must have.
    expected
        What they are, for the error.
    spaces
        Whether a space separates columns as a tab does.
    n_header
        Lines at the beginning that are not part of the table.

    Raises
    ------
    InputError
        With file and line, if a line has another number of columns; if there are no lines;
        and as of `whole_lines`.
    """
    first = 1
    for block in whole_lines(path):
        whole, n_fields = cut_lines(path, block, columns, spaces=spaces, first=first)
        skip = min(max(n_header + 1 - first, 0), len(whole))
        first += len(whole)
        fields = replace(
            whole, first=whole.first + skip, start=whole.start[skip:],
            begin=whole.begin[:, skip:], end=whole.end[:, skip:],
        )  # fmt: skip
        fields.refuse(
            n_fields[skip:] != n_columns, f"a line has not {n_columns} columns", expected
        )
        if len(fields):
            yield fields
    if first == 1 + n_header:
        raise InputError("the file has no lines", where=path, expected=expected)
