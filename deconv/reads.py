"""Reads of mixtures: from what is expected of each region to counts.

Reads are co-methylated, so that n CpG observations tell as much as n / `read_effect`
independent ones; they are drawn in units of that size. Methylated and unmethylated
reads are independent Poisson numbers. (A Poisson number of reads, of which a binomial
share is methylated, is the same.)

One hash a region serves as two table columns and the level of coverage noise. There are
two forms of the same arithmetic: tensors, for a GPU, and a compiled loop, for a CPU, which
keeps all that lies between in the cache (`deconv.compiled.reads`).

Shape letters: B = samples, T = tissues, R = regions, P = profiles.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import norm
from torch import Tensor
from torch.nn.functional import embedding_bag

from deconv.compiled.reads import draw_rows
from deconv.compiled.threads import over_rows
from deconv.sampling import (
    CELL_BITS,
    N_CELLS,
    NORMAL_BITS,
    SERIES_SALT,
    PoissonSampler,
    hashed,
    normal_levels,
    poisson_table,
    random_bits,
    unsigned_shift,
)

N_NOISE = 512  # levels of coverage noise: 9 bits beside two table columns
Counts = tuple[Float[Tensor, "B R"], Float[Tensor, "B R"]]
"""Methylated counts and coverage."""


@dataclass(frozen=True)
class Expected:
    """What is drawn for each sample of a batch, before its reads; on the CPU."""

    fractions: Float[Tensor, "B T"]
    donors: Int[Tensor, "B T"]
    """The profile that each tissue has."""
    levels: Float[Tensor, "B levels"]
    """Reads expected of a region of mean coverage, by level of noise; 0 where it is lost."""
    keys: Int[Tensor, "B 2"]
    """See `deconv.sampling.random_bits`."""

    def take(self, rows: slice) -> "Expected":
        """Return some of the samples."""
        return Expected(
            self.fractions[rows], self.donors[rows], self.levels[rows], self.keys[rows]
        )


class ReadDrawer:
    """Draws the counts of mixtures on one device.

    Parameters
    ----------
    profile
        Coverage of each region, relative to the mean.
    read_effect
        Observations that tell as much as one read.
    largest_level
        Bound on the levels.
    """

    def __init__(
        self,
        profile: Float[np.ndarray, " R"],
        *,
        read_effect: float,
        largest_level: float,
        device: torch.device,
    ) -> None:
        self._profile = torch.from_numpy(profile).to(device)
        self._read_effect = read_effect
        self._sampler = PoissonSampler(largest_level * profile, device)

    def draw(self, expected: Expected, beta: Float[Tensor, "P R"]) -> Counts:
        """Draw reads of mixtures of these profiles, on the profiles' device."""
        if beta.device.type == "cpu":
            return self.draw_compiled(expected, beta)
        return self.draw_tensors(expected, beta)

    def draw_compiled(self, expected: Expected, beta: Float[Tensor, "P R"]) -> Counts:
        """Draw with a compiled loop, in as many threads as torch has."""
        donors, shares = _present(expected)
        shape = (len(donors), beta.shape[1])
        methylated, coverage = torch.empty(shape), torch.empty(shape)
        over_rows(
            draw_rows, len(donors),
            donors, shares, beta, expected.levels, self._profile, expected.keys,
            poisson_table(), normal_levels(), np.float32(self._read_effect),
            methylated, coverage,
        )  # fmt: skip
        return methylated, coverage

    def draw_tensors(self, expected: Expected, beta: Float[Tensor, "P R"]) -> Counts:
        """Draw with operations on whole tensors."""
        device = beta.device
        levels, keys = expected.levels.to(device), expected.keys.to(device)
        bits = random_bits(keys, beta.shape[1])
        level = unsigned_shift(bits, 2 * CELL_BITS).bitwise_and_(N_NOISE - 1)
        first = N_NOISE * torch.arange(len(levels), dtype=torch.int32, device=device)
        at_level = (level + first[:, None]).view(-1)
        reads = torch.index_select(levels.view(-1), 0, at_level).view(level.shape)
        reads *= self._profile
        methylated = reads * _mix(expected, beta)
        unmethylated = reads.sub_(methylated)
        column = bits.bitwise_and(N_CELLS - 1)
        other_column = unsigned_shift(bits, CELL_BITS).bitwise_and_(N_CELLS - 1)
        more = hashed(bits.add_(SERIES_SALT))
        normal = more.bitwise_and((1 << NORMAL_BITS) - 1)
        self._sampler.draw(unmethylated, column, normal)
        self._sampler.draw(methylated, other_column, unsigned_shift(more, NORMAL_BITS))
        # Rounded up or down by chance: to the nearest would move the beta value of few reads.
        chance = level.bitwise_and_(15)
        for counts in (methylated, unmethylated):
            counts.mul_(self._read_effect).add_(chance, alpha=1 / 16).add_(1 / 32).floor_()
        return methylated, unmethylated.add_(methylated)


def noise_levels(dispersion: float) -> Float[np.ndarray, " levels"]:
    """Return equally probable levels of lognormal noise of mean 1, in shuffled order."""
    sigma = np.sqrt(np.log1p(dispersion))
    quantile = (np.arange(N_NOISE) + 0.5) / N_NOISE
    levels = np.exp(sigma * norm.ppf(quantile))
    levels = np.random.default_rng(0).permutation(levels / levels.mean())
    return np.asarray(levels, dtype=np.float32)


def _present(expected: Expected) -> tuple[Int[Tensor, "B k"], Float[Tensor, "B k"]]:
    """Return the profiles and fractions of the tissues present, the last ones 0."""
    n_present = int((expected.fractions > 0).sum(dim=1).max())
    shares, tissue = expected.fractions.topk(n_present, dim=1)
    return expected.donors.gather(1, tissue).int(), shares


def _mix(expected: Expected, beta: Float[Tensor, "P R"]) -> Float[Tensor, "B R"]:
    """Return the expected beta values: sums over the few donors in each mixture."""
    donors, shares = _present(expected)
    return embedding_bag(
        donors.to(beta.device), beta, mode="sum", per_sample_weights=shares.to(beta.device)
    ).clamp_(max=1)  # up to rounding it is
