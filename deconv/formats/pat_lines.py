"""Lines of ``.pat`` files as arrays: a part of the file at a time, in bounded memory.

See `deconv.formats.pat` for the format.

Shape letters: L = lines in a part of the file, B = its bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from deconv.errors import InputError
from deconv.formats.fields import Fields, cut_lines
from deconv.formats.text_blocks import whole_lines

_COLUMNS = dict(enumerate(("chrom", "CpG index", "pattern", "count")))
_EXPECTED = "chrom, CpG index, pattern and count, separated by tabs"
_LARGEST_INDEX = 10**10


@dataclass(frozen=True, eq=False)
class Lines:
    """Consecutive lines of a file.

    Attributes
    ----------
    fields
        Their text; the pattern of a line is ``fields.text[pattern_start:pattern_end]``.
    names, chrom
        Chromosome names, and which of them each line has.
    index, count
        CpG index and number of reads.
    """

    fields: Fields
    names: np.ndarray
    chrom: Int[np.ndarray, " L"]
    index: Int[np.ndarray, " L"]
    pattern_start: Int[np.ndarray, " L"]
    pattern_end: Int[np.ndarray, " L"]
    count: Int[np.ndarray, " L"]


def read_lines(path: Path) -> Iterator[Lines]:
    """Yield all lines, checked but for the letters of the patterns.

    Raises
    ------
    InputError
        With file and line, if the file is not whole, or a line has too few columns, a
        number that is none or a place before that of the line before.
    """
    first, last = 1, 0
    for block in whole_lines(path):
        lines = parse(path, block, first)
        back = np.diff(lines.index, prepend=last) < 0
        lines.fields.refuse(back, "not sorted by CpG index", "no index below the line before's")
        first, last = first + len(back), int(lines.index[-1])
        yield lines
    if first == 1:
        raise InputError("the file has no lines", where=path, expected=_EXPECTED)


def parse(path: Path, block: bytes, first: int) -> Lines:
    """Return whole lines as arrays; ``first`` is the number of the first, 0 if not known."""
    fields, n_fields = cut_lines(path, block, _COLUMNS, first=first)
    fields.refuse(n_fields < len(_COLUMNS), "too few columns", _EXPECTED)
    start, end = fields.begin[2].astype(np.int64), fields.end[2].astype(np.int64)
    fields.refuse(start == end, "no pattern", _EXPECTED)
    index = fields.integers("CpG index", at_most=_LARGEST_INDEX)
    fields.refuse(index == 0, "not a CpG index", "a whole number from 1")
    count = fields.integers("count", at_most=_LARGEST_INDEX)
    fields.refuse(count == 0, "not a count", "a whole number from 1")
    runs = list(fields.runs("chrom"))
    chrom = np.repeat(np.arange(len(runs)), [part.stop - part.start for _, part in runs])
    return Lines(fields, np.array([name for name, _ in runs]), chrom, index, start, end, count)
