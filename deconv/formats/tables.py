"""Text tables: read as text, then column by column, so that an error can say the line."""

import gzip
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from deconv.counts import MAX_COUNT
from deconv.errors import InputError


def read_text(
    path: Path, separator: str = "\t", *, n_skipped: int = 0, header: bool = True
) -> pd.DataFrame:
    """Read a table as text, plain or gzip; an InputError says why it cannot be.

    The first ``n_skipped`` lines are left out. The index of a row and 2 is its line, as it
    is of a file that begins with a header.
    """
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file, warnings.catch_warnings():
            # Without index_col=False pandas takes the first columns of a table whose rows
            # are longer than its header for row names; with it, it only warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                file, sep=separator, dtype=str, skip_blank_lines=False, index_col=False,
                skiprows=n_skipped, header=0 if header else None,
            )  # fmt: skip
    except (OSError, EOFError, zlib.error, ValueError, pd.errors.ParserWarning) as error:
        # pandas' parser errors and those of decoding are ValueErrors
        reason = str(error).splitlines()[0]
        raise InputError("not a readable table", where=path, got=reason) from error
    table.index += n_skipped - (not header)
    return table


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
