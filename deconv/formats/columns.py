"""Columns of text tables that hold fractions."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from deconv.errors import InputError


def fractions(table: pd.DataFrame, path: Path) -> Float[np.ndarray, "rows columns"]:
    """Return the numbers of a table of text, NaN where it says nothing (empty, NA, NaN).

    Parameters
    ----------
    table
        Columns as read, strings; the index of a row and 2 is its line.

    Raises
    ------
    InputError
        With line and column, if a value is no number from 0 to 1.
    """
    names = [str(c) for c in table.columns]
    values = np.empty(table.shape)
    for j, name in enumerate(names):
        column = table.iloc[:, j]
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
        bad = column.notna().to_numpy() & ~((numbers >= 0) & (numbers <= 1))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"{int(bad.sum())} value(s) are not fractions",
                where=f"{path}, line {table.index[row] + 2}, column {name}",
                got=repr(column.iloc[row]), expected="a number from 0 to 1, or NA",
            )  # fmt: skip
        values[:, j] = numbers
    return values
