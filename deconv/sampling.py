r"""Poisson draws by the hundred million: a table where means are small, a series where large.

``torch.poisson`` and ``torch.binomial`` take most of a training step on a CPU. Here a mean
below `TABLE_MAX` is drawn by inverting its distribution function with a table: 32 rows an
octave of means, found by the leading bits of the floating-point number, and a column for
each of `N_CELLS` equally probable values of a uniform number. Each row's columns are
shifted by an offset of its own, so that over rows the probabilities have no bias. Cut are
means below 2^-12 (drawn as 0) and values beyond 1 in 1,024.

A larger mean is drawn from a normal number z by the Cornish-Fisher series
:math:`\lambda + z\sqrt\lambda + (z^2 - 1) / 6`, rounded, which has the right mean, variance
and skewness.

The random bits are a hash of two keys and a position (the finalizer of MurmurHash3), so
that a draw depends on nothing else: no state, no order, no device.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.stats import norm, poisson
from torch import Tensor

TABLE_MAX = 128.0
CELL_BITS = 10
N_CELLS = 1 << CELL_BITS
ROW_SHIFT = 18  # leaves sign, exponent and 5 bits of the fraction: 32 rows an octave
NORMAL_BITS = 16
SERIES_SALT = 0x2545F491
"""Added to a position's bits before they are hashed again, for a large mean."""
STEP, FIRST_FACTOR, SECOND_FACTOR = 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35
_SMALLEST = 2.0**-12
_GOLDEN = 0.6180339887498949  # its multiples spread the rows' offsets evenly over (0, 1)


def _row(mean: float) -> int:
    return int(np.float32(mean).view(np.int32)) >> ROW_SHIFT


N_ROWS = _row(TABLE_MAX)
_BELOW_MAX = float(np.nextafter(np.float32(TABLE_MAX), np.float32(0)))


@cache
def poisson_table() -> UInt8[np.ndarray, "rows cells"]:
    """Return the number drawn for each row of means and each cell of a uniform number."""
    first = _row(_SMALLEST)
    rows = np.arange(first, N_ROWS, dtype=np.int32)
    edges = [(rows + step << ROW_SHIFT).view(np.float32).astype(np.float64) for step in (0, 1)]
    mean = (edges[0] + edges[1]) / 2
    offset = (np.arange(len(mean)) * _GOLDEN) % 1
    quantile = (np.arange(N_CELLS) + offset[:, None].clip(1e-3)) / N_CELLS
    table = np.zeros((N_ROWS, N_CELLS), np.uint8)  # the rows before are the means cut
    table[first:] = poisson.ppf(quantile, mean[:, None])
    return table


@cache
def normal_levels() -> Float[np.ndarray, " levels"]:
    """Return equally probable normal numbers, ascending, for `NORMAL_BITS` bits."""
    n = 1 << NORMAL_BITS
    return np.asarray(norm.ppf((np.arange(n) + 0.5) / n), dtype=np.float32)


def row_keys(seeds: tuple[int, int], n_rows: int) -> Int[np.ndarray, "rows 2"]:
    """Return the two keys of each row of a batch, as 32-bit integers."""
    words = np.random.SeedSequence(seeds).generate_state(2 * n_rows, np.uint32)
    return words.view(np.int32).reshape(n_rows, 2)


def random_bits(keys: Int[Tensor, "b 2"], n: int) -> Int[Tensor, "b n"]:
    """Return 32 random bits for each row and position, the same on every device."""
    position = torch.arange(n, dtype=torch.int32, device=keys.device)
    mixed = (position ^ keys[:, :1]) * _signed(STEP)
    return hashed(mixed.add_(keys[:, 1:]))


def hashed(bits: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Return a hash of each integer, in place."""
    for shift, factor in ((16, FIRST_FACTOR), (13, SECOND_FACTOR), (16, 1)):
        bits.bitwise_xor_(unsigned_shift(bits, shift)).mul_(_signed(factor))
    return bits


def unsigned_shift(bits: Int[Tensor, "b n"], shift: int) -> Int[Tensor, "b n"]:
    """Shift right as unsigned numbers; torch's own shift repeats the sign."""
    return bits.bitwise_right_shift(shift).bitwise_and_((1 << (32 - shift)) - 1)


class PoissonSampler:
    """Draws Poisson numbers on a device.

    Parameters
    ----------
    largest_mean
        Bound on the means of each region; only where it reaches `TABLE_MAX` is the series
        computed at all.
    """

    def __init__(self, largest_mean: Float[np.ndarray, " R"], device: torch.device) -> None:
        self._table = torch.from_numpy(poisson_table().ravel()).to(device)
        self._normal = torch.from_numpy(normal_levels()).to(device)
        self._large = torch.from_numpy(np.flatnonzero(largest_mean >= TABLE_MAX)).to(device)

    def draw(
        self,
        mean: Float[Tensor, "B R"],
        cell: Int[Tensor, "B R"],
        level: Int[Tensor, "B R"],
    ) -> None:
        """Draw a number for each mean, in place.

        Parameters
        ----------
        mean
            Not negative; becomes the numbers drawn.
        cell
            Uniform integers from 0 to `N_CELLS` - 1.
        level
            Uniform integers of `NORMAL_BITS` bits, used for large means only.
        """
        large = mean[:, self._large]
        mean[:, self._large] = large.clamp(max=_BELOW_MAX)  # so that it has a row
        index = mean.view(torch.int32).bitwise_right_shift(ROW_SHIFT - CELL_BITS)
        index.bitwise_and_(-N_CELLS).bitwise_or_(cell)
        mean.copy_(torch.index_select(self._table, 0, index.view(-1)).view(mean.shape))
        z = self._normal[level[:, self._large]]
        series = (large + large.sqrt() * z + (z.square() - 1) / 6).round_().clamp_(min=0)
        mean[:, self._large] = torch.where(large >= TABLE_MAX, series, mean[:, self._large])


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number
