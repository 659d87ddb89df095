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
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import poisson
from torch import Tensor

TABLE_MAX = 128.0
CELL_BITS = 10
N_CELLS = 1 << CELL_BITS
_SMALLEST = 2.0**-12
_SHIFT = 18  # leaves sign, exponent and 5 bits of the fraction: 32 rows an octave
_GOLDEN = 0.6180339887498949  # its multiples spread the rows' offsets evenly over (0, 1)


def _row(mean: float) -> int:
    return int(np.float32(mean).view(np.int32)) >> _SHIFT


_FIRST_ROW, _N_ROWS = _row(_SMALLEST), _row(TABLE_MAX)
_BELOW_MAX = float(np.nextafter(np.float32(TABLE_MAX), np.float32(0)))


class Noise:
    """The random numbers of one block of samples, fixed by its seeds."""

    def __init__(self, seeds: tuple[int, ...], device: torch.device) -> None:
        words = np.random.SeedSequence(seeds).generate_state(2, np.uint64)
        self.generator = torch.Generator(device).manual_seed(int(words[0] >> 1))
        self._cpu = np.random.SFC64(int(words[1]))  # cheaper than torch's there

    def bits(self, shape: torch.Size) -> Int[Tensor, "B R"]:
        """Return 31 random bits each: half a long integer is cheaper than a whole short one."""
        n = (shape.numel() + 1) // 2
        if self.generator.device.type == "cpu":
            wide = torch.from_numpy(self._cpu.random_raw(n).view(np.int64))
        else:
            wide = torch.empty(n, dtype=torch.int64, device=self.generator.device)
            wide.random_(generator=self.generator)
        return wide.view(torch.int32)[: shape.numel()].view(shape)


class PoissonSampler:
    """Draws Poisson numbers on a device.

    Parameters
    ----------
    largest_mean
        Bound on the means of each region; only where it reaches `TABLE_MAX` is the series
        computed at all.
    """

    def __init__(self, largest_mean: Float[np.ndarray, " R"], device: torch.device) -> None:
        rows = np.arange(_FIRST_ROW, _N_ROWS, dtype=np.int32)
        edges = [(rows + step << _SHIFT).view(np.float32).astype(np.float64) for step in (0, 1)]
        mean = (edges[0] + edges[1]) / 2
        offset = (np.arange(len(mean)) * _GOLDEN) % 1
        quantile = (np.arange(N_CELLS) + offset[:, None].clip(1e-3)) / N_CELLS
        table = np.zeros((_N_ROWS, N_CELLS), np.uint8)  # the rows before are the means cut
        table[_FIRST_ROW:] = poisson.ppf(quantile, mean[:, None])
        self._table = torch.from_numpy(table.ravel()).to(device)
        self._large = torch.from_numpy(np.flatnonzero(largest_mean >= TABLE_MAX)).to(device)

    def draw(
        self,
        mean: Float[Tensor, "B R"],
        cell: Int[Tensor, "B R"],
        generator: torch.Generator,
    ) -> None:
        """Draw a number for each mean, in place.

        Parameters
        ----------
        mean
            Not negative; becomes the numbers drawn.
        cell
            Uniform integers from 0 to `N_CELLS` - 1.
        generator
            Used for large means only.
        """
        large = mean[:, self._large]
        mean[:, self._large] = large.clamp(max=_BELOW_MAX)  # so that it has a row
        index = mean.view(torch.int32).bitwise_right_shift(_SHIFT - CELL_BITS)
        index.bitwise_and_(-N_CELLS).bitwise_or_(cell)
        mean.copy_(torch.index_select(self._table, 0, index.view(-1)).view(mean.shape))
        z = torch.randn(large.shape, generator=generator, device=mean.device)
        series = (large + large.sqrt() * z + (z.square() - 1) / 6).round_().clamp_(min=0)
        mean[:, self._large] = torch.where(large >= TABLE_MAX, series, mean[:, self._large])
