"""Loops that are compiled: where numba keeps them, and by which threads they run."""

import numpy as np
import torch

from deconv.compiled.loops import compiled_loop
from deconv.compiled.threads import over_rows

SOURCE = """
def double(first, stop, values):
    for row in range(first, stop):
        values[row] *= 2
"""


def test_loop_is_compiled_where_there_is_no_place_to_keep_it():
    """As in a service without a home: numba knows no folder for code without a file."""
    names = {"__name__": "nowhere"}
    exec(SOURCE, names)
    double = compiled_loop()(names["double"])
    values = np.ones(5)
    double(1, 3, values)
    assert values.tolist() == [1, 2, 2, 1, 1]
    assert double.signatures


def test_rows_are_shared_out_once_each_over_any_number_of_threads():
    before = torch.get_num_threads()
    try:
        for n_threads, n_rows in ((1, 5), (3, 7), (4, 2), (2, 0)):
            torch.set_num_threads(n_threads)
            seen = torch.zeros(n_rows)
            over_rows(count, n_rows, seen)
            assert (seen == 1).all()
    finally:
        torch.set_num_threads(before)


def count(first, stop, seen):
    assert isinstance(seen, np.ndarray)
    seen[first:stop] += 1
