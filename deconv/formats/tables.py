"""Text tables: read as text, then column by column, so that an error can say the line."""

import codecs
import csv
import gzip
import io
import zlib
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from deconv.counts import MAX_COUNT
from deconv.errors import InputError

_MISSING = ["", "NA", "NaN", "nan"]
_LINE_ENDS = [ord("\n"), ord("\r")]


def read_text(
    path: Path, separator: str = "\t", *, n_skipped: int = 0, header: bool = True
) -> pd.DataFrame:
    """Read a table as text, None where a field is empty, ``NA`` or ``NaN``.

    The first ``n_skipped`` lines are left out. The index of a row and 2 is its line, as it
    is of a file that begins with a header. Fields of comma-separated text may be quoted.

    Raises
    ------
    InputError
        If the file is damaged or no text, a line has more or fewer fields than the first,
        or two columns have the same name, or one but the first has none.
    """
    text = _whole_text(path)
    for _ in range(n_skipped):
        text = text.partition(b"\n")[2]
    _refuse_ragged(text, separator, path, n_skipped + 1)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
    try:
        table: pd.DataFrame = pd.read_csv(
            io.BytesIO(text), sep=separator, dtype=str, header=None, encoding="utf-8",
            quoting=quoting, skip_blank_lines=False, keep_default_na=False, na_values=_MISSING,
        )  # fmt: skip
    except ValueError as error:  # of pandas' parser, and of decoding
        reason = str(error).splitlines()[0]
        raise InputError("not a readable table", where=path, got=reason) from error
    table.index += n_skipped - 1
    if not header:
        return table
    first = text.partition(b"\n")[0].decode().removesuffix("\r")
    names = next(csv.reader([first], delimiter=separator, quoting=quoting))
    for name, n_uses in Counter(names).items():
        if n_uses > 1:
            raise InputError("a column occurs twice", where=f"{path}, header", got=name)
    if "" in names[1:]:
        raise InputError("a column has no name", where=f"{path}, header", got=first)
    return table.iloc[1:].set_axis(names, axis=1)


def _whole_text(path: Path) -> bytes:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rb") as file:
            return file.read().rstrip(b"\r\n").removeprefix(codecs.BOM_UTF8)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("the file is damaged or cut off", where=path, got=error) from error


def _refuse_ragged(text: bytes, separator: str, path: Path, first: int) -> None:
    """Refuse what pandas would guess at: lines of other lengths, odd quotes, no text."""
    letters = np.frombuffer(text, dtype=np.uint8)
    if not len(letters):
        raise InputError("the table has no lines", where=path)
    line_end = np.append(np.flatnonzero(letters == ord("\n")), len(letters))

    def refuse(places: np.ndarray, what: str, expected: object = None) -> None:
        if len(places):
            line = int(np.searchsorted(line_end, places[0]))
            raise InputError(
                f"not a readable table: {what}", where=f"{path}, line {first + line}",
                expected=expected,
            )  # fmt: skip

    following = np.append(letters[1:], ord("\n"))
    before = np.insert(letters[:-1], 0, ord("\n"))
    is_end = np.isin(letters, _LINE_ENDS)
    control = ((letters < ord(" ")) & (letters != ord("\t")) & ~is_end) | (letters == 127)
    lone = (letters == ord("\r")) & (following != ord("\n"))
    refuse(np.flatnonzero(control | lone), "a letter that cannot be printed")
    is_separator = letters == ord(separator)
    if separator == ",":
        quote = np.flatnonzero(letters == ord('"'))
        opens, closes = quote[::2], quote[1::2]
        outside = np.isin(before[opens], [ord(","), ord("\n")])
        refuse(opens[~outside], "a quote inside a field")
        outside = np.isin(following[closes], [ord(","), *_LINE_ENDS])
        refuse(closes[~outside], "a quote inside a field")
        refuse(opens[len(closes) :], "a quote that is not closed")
        n_before = np.searchsorted(quote, np.arange(len(letters))) if len(quote) else None
        if n_before is not None:
            quoted = n_before % 2 == 1
            refuse(np.flatnonzero(quoted & is_end), "a quoted field goes on in the next line")
            is_separator &= ~quoted
    n_separators = np.diff(np.searchsorted(np.flatnonzero(is_separator), line_end), prepend=0)
    other = np.flatnonzero(n_separators != n_separators[0])
    if other.size:
        got = n_separators[other[0]] + 1
        refuse(line_end[other], f"{got} fields", f"{n_separators[0] + 1}, as in the first line")


def integers(column: pd.Series, path: Path) -> np.ndarray:
    """Return a column of counts; an InputError names the line that is none."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    bad = ~((numbers >= 0) & (numbers <= MAX_COUNT) & (numbers == np.floor(numbers)))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{int(bad.sum())} value(s) are not counts",
            where=f"{path}, line {column.index[row] + 2}, column {column.name}",
            got="nothing" if pd.isna(column.iloc[row]) else repr(column.iloc[row]),
            expected=f"an integer from 0 to {MAX_COUNT}",
        )
    return numbers.astype(np.int64)
