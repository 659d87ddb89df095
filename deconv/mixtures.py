"""Mixtures of pure samples, drawn on the device that trains on them.

A mixture is drawn as sequencing would: tissues and their fractions from a design, one
donor of each tissue, a depth, then reads (`deconv.reads`).

Shape letters: B = samples in the batch, T = tissues, R = regions.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from deconv.atlas import Atlas
from deconv.configuration import Section
from deconv.counts import Samples
from deconv.designs import check_weights, draw_fractions
from deconv.estimator import AtlasEstimator
from deconv.profiles import ProfilePool, Profiles
from deconv.reads import N_NOISE, Expected, ReadDrawer, noise_levels
from deconv.sampling import row_keys


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
        noise = noise_levels(config.coverage_dispersion)
        self._noise = torch.from_numpy(noise)
        self._reads = ReadDrawer(
            atlas.profile, read_effect=config.read_effect, device=self.device,
            largest_level=config.depth[1] / config.read_effect * float(noise.max()),
        )  # fmt: skip

    def batch(self, index: int, size: int, rows: slice | None = None) -> Batch:
        """Draw the mixtures of batch ``index``: the same ones whenever it is asked for.

        With ``rows``, only those of them.
        """
        expected, profiles = self.expected(index, size), self._pool.at(index)
        if rows is not None:
            expected = expected.take(rows)
        methylated, coverage = self._reads.draw(expected, profiles.beta)
        truth = expected.fractions.to(self.device)
        return Batch(methylated, coverage, truth, profiles.estimator)

    def expected(self, index: int, size: int) -> Expected:
        """Draw what is known of the samples of a batch before their reads."""
        state = np.random.SeedSequence([self.seed, index]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> 1))
        fractions = draw_fractions(
            self.config.designs, size, self.atlas.tissues, self.config.background, generator
        )
        depth = _uniform(size, np.log(self.config.depth), generator).exp()
        missing = _uniform(size, self.config.missing_regions, generator)
        return Expected(
            fractions,
            _pick_donors(fractions, self._pool.at(index), generator),
            self._coverage_levels(depth, missing),
            torch.from_numpy(row_keys((self.seed, index), size)),
        )

    def _coverage_levels(
        self, depth: Float[Tensor, " B"], missing: Float[Tensor, " B"]
    ) -> Float[Tensor, "B levels"]:
        """Return the reads expected of a sample's mean region at each noise level.

        The order of the levels is shuffled, so that a sample's first ones can mean "lost".
        """
        levels = (depth / self.config.read_effect)[:, None] * self._noise
        n_lost = (missing * N_NOISE).round()
        return levels.masked_fill(torch.arange(N_NOISE) < n_lost[:, None], 0)


def _pick_donors(
    fractions: Float[Tensor, "B T"], profiles: Profiles, generator: torch.Generator
) -> Int[Tensor, "B T"]:
    """Draw the profile that each tissue of each mixture has."""
    chance = torch.rand(fractions.shape, generator=generator)
    return profiles.first + (chance * profiles.number).long()


def _uniform(
    n: int, bounds: tuple[float, float] | np.ndarray, generator: torch.Generator
) -> Float[Tensor, " n"]:
    low, high = float(bounds[0]), float(bounds[1])
    return low + (high - low) * torch.rand(n, generator=generator)
