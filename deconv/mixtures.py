"""Mixtures of pure samples, drawn on the device that trains on them.

A mixture is drawn as sequencing would: tissues and their fractions from a design, one
donor of each tissue, a depth, then reads. Reads are co-methylated, so that n CpG
observations tell as much as n / `read_effect` independent ones; they are drawn in
units of that size.

Shape letters: B = samples in the batch (b: of a part of it), T = tissues, R = regions.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from scipy.stats import norm
from torch import Tensor
from torch.nn.functional import embedding_bag

from deconv.atlas import Atlas
from deconv.configuration import Section
from deconv.counts import Samples
from deconv.designs import check_weights, draw_fractions
from deconv.estimator import AtlasEstimator
from deconv.profiles import ProfilePool, Profiles
from deconv.sampling import CELL_BITS, N_CELLS, Noise, PoissonSampler

BLOCK = 32
"""Samples drawn at a time on a CPU, so that passes stay in its cache."""
N_NOISE = 512  # levels of coverage noise; with two table columns, 31 random bits


@dataclass(frozen=True)
class Batch:
    """Counts of mixtures and the truth about them, as float tensors on one device."""

    methylated: Float[Tensor, "B R"]
    coverage: Float[Tensor, "B R"]
    proportions: Float[Tensor, "B T"]
    estimator: AtlasEstimator | None = None
    """What a network may know of the atlas, see `deconv.profiles`; None: its own."""


class MixtureConfig(Section):
    """What mixtures look like.

    Attributes
    ----------
    designs
        Weight of each design, see `deconv.designs.DESIGNS`.
    background
        Tissues that make up most of the DNA in the cell-free designs.
    depth
        Range of the mean number of observations of a region, drawn log-uniformly.
    missing_regions
        Range of the share of regions lost in a sample, drawn uniformly.
    cpgs_per_read, read_correlation
        Observations that come together, and how alike they are (1 for fragment counts).
    coverage_dispersion
        Squared coefficient of variation of coverage after region and depth.
    """

    designs: dict[str, float]
    background: tuple[str, ...] = ()
    depth: tuple[float, float] = (5.0, 30.0)
    missing_regions: tuple[float, float] = (0.0, 0.1)
    cpgs_per_read: float = Field(4.0, ge=1)
    read_correlation: float = Field(0.5, ge=0, le=1)
    coverage_dispersion: float = Field(0.05, ge=0)

    @model_validator(mode="after")
    def _check(self) -> "MixtureConfig":
        check_weights(self.designs)
        if not 0 < self.depth[0] <= self.depth[1]:
            raise ValueError(f"depth is not a range above 0: {self.depth}")
        if not 0 <= self.missing_regions[0] <= self.missing_regions[1] < 1:
            raise ValueError(f"missing_regions is not a range in 0 to 1: {self.missing_regions}")
        return self

    @property
    def read_effect(self) -> float:
        """Design effect 1 + (m - 1) rho of observations that come m at a time."""
        return 1 + (self.cpgs_per_read - 1) * self.read_correlation


class MixingEngine:
    """Pure samples on a device, and batches of mixtures drawn from them.

    Parameters
    ----------
    pure
        Samples with tissue and donor, at the atlas' regions.
    atlas
        The reference built from the training donors; held-out donors are mixed with its
        coverage profile, as that is all a model could know.
    in_atlas
        Whether the atlas was built from these donors. They lie closer to its means than an
        unseen donor would, so virtual donors take their place; see `deconv.profiles`.
    seed
        With the index of a batch, it determines that batch.
    megabytes
        Memory for the samples' profiles; what exceeds it is streamed. This and the errors
        are those of `deconv.profiles.ProfilePool`.
    """

    def __init__(
        self,
        pure: Samples,
        atlas: Atlas,
        config: MixtureConfig,
        *,
        seed: int,
        in_atlas: bool,
        device: torch.device | str = "cpu",
        megabytes: float = math.inf,
    ) -> None:
        self.config, self.seed, self.device = config, seed, torch.device(device)
        self.atlas = atlas
        self._pool = ProfilePool(
            pure, atlas, in_atlas=in_atlas, read_effect=config.read_effect, megabytes=megabytes,
            seed=seed, device=self.device,
        )  # fmt: skip
        self._profile = torch.from_numpy(atlas.profile).to(self.device)
        noise = _noise_levels(config.coverage_dispersion)
        self._noise = torch.from_numpy(noise)
        largest = config.depth[1] / config.read_effect * noise.max() * atlas.profile
        self._sampler = PoissonSampler(largest, self.device)

    def batch(self, index: int, size: int, rows: slice | None = None) -> Batch:
        """Draw the mixtures of batch ``index``: the same ones whenever it is asked for.

        With ``rows``, which must begin at a multiple of `BLOCK`, only those of them.
        """
        rows = rows or slice(0, size)
        state = np.random.SeedSequence([self.seed, index]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> 1))
        fractions = draw_fractions(
            self.config.designs, size, self.atlas.tissues, self.config.background, generator
        )
        depth = _uniform(size, np.log(self.config.depth), generator).exp()
        missing = _uniform(size, self.config.missing_regions, generator)
        profiles = self._pool.at(index)
        donors = _pick_donors(fractions, profiles, generator)[rows]
        fractions = fractions[rows]
        levels = self._coverage_levels(depth, missing)[rows].to(self.device)
        shape = (rows.stop - rows.start, len(self.atlas.regions))
        methylated = torch.empty(shape, device=self.device)
        coverage = torch.empty(shape, device=self.device)
        n_rows = BLOCK if self.device.type == "cpu" else shape[0]
        for first in range(0, shape[0], n_rows):
            part = slice(first, first + n_rows)
            noise = Noise((self.seed, index, rows.start + first), self.device)
            beta = self._mix(fractions[part], donors[part], profiles)
            self._draw_reads(beta, levels[part], methylated[part], coverage[part], noise)
        return Batch(methylated, coverage, fractions.to(self.device), profiles.estimator)

    def _coverage_levels(
        self, depth: Float[Tensor, " B"], missing: Float[Tensor, " B"]
    ) -> Float[Tensor, "B levels"]:
        """Return the reads expected of a sample's mean region at each noise level.

        The order of the levels is shuffled, so that a sample's first ones can mean "lost".
        """
        levels = (depth / self.config.read_effect)[:, None] * self._noise
        n_lost = (missing * N_NOISE).round()
        return levels.masked_fill(torch.arange(N_NOISE) < n_lost[:, None], 0)

    def _mix(
        self, fractions: Float[Tensor, "b T"], donors: Int[Tensor, "b T"], profiles: Profiles
    ) -> Float[Tensor, "b R"]:
        """Return the expected beta values: sums over the few donors in each mixture."""
        present = fractions > 0
        n_present = present.sum(dim=1)
        return embedding_bag(
            donors[present].to(self.device),
            profiles.beta,
            (n_present.cumsum(0) - n_present).to(self.device),
            mode="sum",
            per_sample_weights=fractions[present].to(self.device),
        ).clamp_(max=1)  # up to rounding it is

    def _draw_reads(
        self,
        beta: Float[Tensor, "b R"],
        levels: Float[Tensor, "b levels"],
        methylated: Float[Tensor, "b R"],
        coverage: Float[Tensor, "b R"],
        noise: Noise,
    ) -> None:
        """Draw methylated and unmethylated reads, which are independent Poisson numbers.

        (A Poisson number of reads, of which a binomial share is methylated, is the same.)
        One random integer a region serves as two table columns and the noise level.
        """
        bits = noise.bits(beta.shape)
        level = bits.bitwise_right_shift(2 * CELL_BITS).bitwise_and_(N_NOISE - 1)
        level += (
            N_NOISE * torch.arange(len(levels), dtype=torch.int32, device=self.device)[:, None]
        )
        expected = torch.index_select(levels.view(-1), 0, level.view(-1)).view(beta.shape)
        expected *= self._profile

        torch.mul(expected, beta, out=methylated)
        torch.sub(expected, methylated, out=coverage)
        self._sampler.draw(coverage, bits.bitwise_and(N_CELLS - 1), noise.generator)
        column = bits.bitwise_right_shift_(CELL_BITS).bitwise_and_(N_CELLS - 1)
        self._sampler.draw(methylated, column, noise.generator)
        # Rounded up or down by chance: to the nearest would move the beta value of few reads.
        chance = level.bitwise_and_(15)
        for reads in (methylated, coverage):
            reads.mul_(self.config.read_effect).add_(chance, alpha=1 / 16).add_(1 / 32).floor_()
        coverage.add_(methylated)


def _pick_donors(
    fractions: Float[Tensor, "B T"], profiles: Profiles, generator: torch.Generator
) -> Int[Tensor, "B T"]:
    """Draw the profile that each tissue of each mixture has."""
    chance = torch.rand(fractions.shape, generator=generator)
    return profiles.first + (chance * profiles.number).long()


def _noise_levels(dispersion: float) -> Float[np.ndarray, " levels"]:
    """Return equally probable levels of lognormal noise of mean 1, in shuffled order."""
    sigma = np.sqrt(np.log1p(dispersion))
    quantile = (np.arange(N_NOISE) + 0.5) / N_NOISE
    levels = np.exp(sigma * norm.ppf(quantile))
    levels = np.random.default_rng(0).permutation(levels / levels.mean())
    return levels.astype(np.float32)


def _uniform(
    n: int, bounds: tuple[float, float] | np.ndarray, generator: torch.Generator
) -> Float[Tensor, " n"]:
    low, high = float(bounds[0]), float(bounds[1])
    return low + (high - low) * torch.rand(n, generator=generator)
