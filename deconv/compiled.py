"""Mixing and drawing on a CPU, compiled: the arithmetic of `deconv.reads`, region by region.

As tensor operations the same work is twenty passes over memory. The loop holds a block of
regions in the cache and lets other threads run; numba keeps what it compiled on disk.
"""

from typing import no_type_check

import numpy as np
from numba import njit

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

_BLOCK = 2048  # regions; five arrays of them fit into the first-level cache
_CELL_MASK = np.uint32(N_CELLS - 1)
_NOISE_MASK = np.uint32(511)
_NORMAL_MASK = np.uint32((1 << NORMAL_BITS) - 1)
_LARGE = np.float32(TABLE_MAX)
_ONE, _SIXTH, _STEP_OF_CHANCE, _HALF_STEP = (
    np.float32(x) for x in (1, 1 / 6, 1 / 16, 1 / 32)
)  # fmt: skip
_COLUMNS_SHIFT, _OTHER_SHIFT = np.uint32(2 * CELL_BITS), np.uint32(CELL_BITS)
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
def _draw(mean, cell, z_level, table, normal):
    if mean < _LARGE:
        row = np.float32(mean).view(np.int32) >> ROW_SHIFT
        return np.float32(table[row, cell])
    z = normal[z_level]
    drawn = np.rint(mean + np.sqrt(mean) * z + (z * z - _ONE) * _SIXTH)
    return max(drawn, np.float32(0))


@njit(nogil=True, cache=True)
@no_type_check
def draw_rows(
    first, stop, donors, shares, beta, levels, profile, keys, table, normal, effect,
    methylated, coverage,
):  # fmt: skip
    """Draw the samples from ``first`` to ``stop`` into the last two arguments.

    Parameters are those of `deconv.reads.Expected`, and of `deconv.sampling`'s tables.
    """
    n_regions = beta.shape[1]
    mixed = np.empty(_BLOCK, np.float32)
    bits = np.empty(_BLOCK, np.uint32)
    for b in range(first, stop):
        key, other_key = np.uint32(keys[b, 0]), np.uint32(keys[b, 1])
        for begin in range(0, n_regions, _BLOCK):
            size = min(_BLOCK, n_regions - begin)
            mixed[:size] = 0
            for k in range(shares.shape[1]):
                share = shares[b, k]
                if share > 0:
                    donor = beta[donors[b, k], begin : begin + size]
                    for j in range(size):
                        mixed[j] += share * donor[j]
            for j in range(size):
                x = np.uint32((np.uint32(begin + j) ^ key) * _STEP)
                bits[j] = _hash(np.uint32(x + other_key))
            for j in range(size):
                x = bits[j]
                level = (x >> _COLUMNS_SHIFT) & _NOISE_MASK
                reads = levels[b, level] * profile[begin + j]
                mean = reads * min(mixed[j], _ONE)
                other = reads - mean
                more = np.uint32(0)
                if reads >= _LARGE:
                    more = _hash(np.uint32(x + _SALT))
                u = _draw(other, x & _CELL_MASK, more & _NORMAL_MASK, table, normal)
                m = _draw(
                    mean, (x >> _OTHER_SHIFT) & _CELL_MASK, more >> np.uint32(16), table, normal
                )
                chance = np.float32(level & np.uint32(15)) * _STEP_OF_CHANCE
                m = np.floor(m * effect + chance + _HALF_STEP)
                methylated[b, begin + j] = m
                coverage[b, begin + j] = m + np.floor(u * effect + chance + _HALF_STEP)
