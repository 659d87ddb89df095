"""Mixing and drawing: the arithmetic of `deconv.reads`, region by region.

As tensor operations the same work is twenty passes over memory. These loops hold a block of
regions in the cache; each does one thing to few arrays, so that the compiler makes vector
instructions of all but the look-ups.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from deconv.compiled.loops import compiled_loop
from deconv.sampling import (
    CELL_BITS,
    FIRST_FACTOR,
    N_CELLS,
    NORMAL_BITS,
    ROW_SHIFT,
    SECOND_FACTOR,
    SERIES_SALT,
    STEP,
    TABLE_MAX,
)

_BLOCK = 1024  # regions; ten arrays of them fit into the first-level cache
_CELL_MASK = np.uint32(N_CELLS - 1)
_NOISE_MASK = np.uint32(511)
_NORMAL_MASK = np.uint32((1 << NORMAL_BITS) - 1)
_LARGE = np.float32(TABLE_MAX)
_BELOW_LARGE = np.float32(np.nextafter(_LARGE, np.float32(0)))
_ONE, _SIXTH, _STEP_OF_CHANCE, _HALF_STEP = (
    np.float32(x) for x in (1, 1 / 6, 1 / 16, 1 / 32)
)  # fmt: skip
_COLUMNS_SHIFT, _OTHER_SHIFT = np.uint32(2 * CELL_BITS), np.uint32(CELL_BITS)
_ROW_SHIFT, _CELL_BITS = np.int32(ROW_SHIFT), np.int32(CELL_BITS)
_STEP, _FIRST, _SECOND = np.uint32(STEP), np.uint32(FIRST_FACTOR), np.uint32(SECOND_FACTOR)
_SALT = np.uint32(SERIES_SALT)


@njit(inline="always")
@no_type_check
def _hash(x):
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * _FIRST)
    x = np.uint32(x ^ (x >> np.uint32(13)))
    x = np.uint32(x * _SECOND)
    return np.uint32(x ^ (x >> np.uint32(16)))


@njit(inline="always")
@no_type_check
def _cell(mean, column):
    """Return the index into the flat table."""
    row = np.float32(min(mean, _BELOW_LARGE)).view(np.int32) >> _ROW_SHIFT
    return (row << _CELL_BITS) | np.int32(column & _CELL_MASK)


@njit(inline="always")
@no_type_check
def _series(mean, z):
    drawn = np.rint(mean + np.sqrt(mean) * z + (z * z - _ONE) * _SIXTH)
    return max(drawn, np.float32(0))


@compiled_loop()
@no_type_check
def draw_rows(
    first, stop, donors, shares, beta, levels, profile, keys, table, normal, effect,
    methylated, coverage,
):  # fmt: skip
    """Draw the samples from ``first`` to ``stop`` into the last two arguments.

    Parameters are those of `deconv.reads.Expected`, and of `deconv.sampling`'s tables.
    """
    n_regions = beta.shape[1]
    table = table.ravel()
    mean, other = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    bits = np.empty(_BLOCK, np.uint32)
    mean_cell, other_cell = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.int32)
    m, u = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    for b in range(first, stop):
        key, other_key = np.uint32(keys[b, 0]), np.uint32(keys[b, 1])
        level = levels[b]
        for begin in range(0, n_regions, _BLOCK):
            size = min(_BLOCK, n_regions - begin)
            mean[:size] = 0
            for k in range(shares.shape[1]):
                share = shares[b, k]
                if share > 0:
                    donor = beta[donors[b, k], begin : begin + size]
                    for j in range(size):
                        mean[j] += share * donor[j]
            for j in range(size):
                x = np.uint32((np.uint32(begin + j) ^ key) * _STEP)
                bits[j] = _hash(np.uint32(x + other_key))
            expected = profile[begin : begin + size]
            largest = np.float32(0)
            for j in range(size):
                reads = level[(bits[j] >> _COLUMNS_SHIFT) & _NOISE_MASK] * expected[j]
                largest = max(largest, reads)
                mean[j] = reads * min(mean[j], _ONE)
                other[j] = reads - mean[j]
            for j in range(size):
                other_cell[j] = _cell(other[j], bits[j])
                mean_cell[j] = _cell(mean[j], bits[j] >> _OTHER_SHIFT)
            for j in range(size):
                u[j] = table[other_cell[j]]
                m[j] = table[mean_cell[j]]
            if largest >= _LARGE:
                for j in range(size):
                    more = _hash(np.uint32(bits[j] + _SALT))
                    if other[j] >= _LARGE:
                        u[j] = _series(other[j], normal[more & _NORMAL_MASK])
                    if mean[j] >= _LARGE:
                        m[j] = _series(mean[j], normal[more >> np.uint32(16)])
            m_out = methylated[b, begin : begin + size]
            n_out = coverage[b, begin : begin + size]
            for j in range(size):
                chance = np.float32((bits[j] >> _COLUMNS_SHIFT) & np.uint32(15)) * _STEP_OF_CHANCE
                whole = np.floor(m[j] * effect + chance + _HALF_STEP)
                m_out[j] = whole
                n_out[j] = whole + np.floor(u[j] * effect + chance + _HALF_STEP)
