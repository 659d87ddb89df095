"""Profiles of pure samples on the device, as many as memory is given for.

A patient is not a training donor, and the atlas is not the truth: its means are those of a
few donors. Training on the donors that made the atlas would hide both. So each selection of
profiles is a world of its own, in which the atlas is the truth, virtual donors deviate from
it (each region as one of the real donors does), and the network is given an atlas that errs
as the mean of so many donors would.

Shape letters: D = samples, P = profiles held, T = tissues, R = regions.
"""

from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deconv.atlas import Atlas, smoothed_beta
from deconv.counts import Samples
from deconv.errors import ConfigError, MismatchError
from deconv.estimator import AtlasEstimator

_POOL_BATCHES = 64  # that a pool serves; reading one then costs little beside them


@dataclass(frozen=True)
class Profiles:
    """Beta values of samples, grouped by tissue, and the atlas as it is known beside them."""

    beta: Float[Tensor, "P R"]
    first: Int[Tensor, " T"]
    number: Int[Tensor, " T"]
    estimator: AtlasEstimator | None
    """Of the atlas that errs; None for samples that did not make the atlas."""


class ProfilePool:
    """The samples that mixtures are drawn from: all of them, or changing selections.

    Samples that made the atlas are replaced by virtual donors, new ones every 64 batches. A set
    that exceeds the memory is read from its file again and again, as many samples of
    each tissue at a time as half of it holds (the next selection is read while one is used).

    Parameters
    ----------
    pure, atlas, in_atlas
        As of `deconv.mixtures.MixingEngine`.
    read_effect
        See `deconv.mixtures`.
    megabytes
        Memory for profiles, in 10^6 bytes.
    seed
        With the number of a selection, it determines that selection.

    Raises
    ------
    MismatchError
        If a tissue of the atlas has no pure sample, or one is not in the atlas.
    ConfigError
        If the memory does not hold two samples of each tissue.
    """

    def __init__(
        self,
        pure: Samples,
        atlas: Atlas,
        *,
        in_atlas: bool,
        read_effect: float,
        megabytes: float,
        seed: int,
        device: torch.device,
    ) -> None:
        tissues = set(pure.samples["tissue"])
        if tissues != set(atlas.tissues):
            odd = sorted(tissues ^ set(atlas.tissues))
            raise MismatchError("tissues differ from the atlas", got=f"{len(odd)}: {odd[:5]}")
        if not pure.regions.is_same(atlas.regions):
            raise MismatchError("the samples are at other regions than the atlas")
        of_tissue = np.array([atlas.tissues.index(t) for t in pure.samples["tissue"]])
        self._pure, self._atlas, self._in_atlas = pure, atlas, in_atlas
        self._read_effect = read_effect
        self._rows = [np.flatnonzero(of_tissue == t) for t in range(len(atlas.tissues))]
        self._seed, self._device = seed, device
        size = 4e-6 * len(atlas.regions)
        self._slots = len(pure)
        self._is_whole = len(pure) * size <= megabytes
        if not self._is_whole:
            needed = 2 * len(atlas.tissues) * size
            self._slots = int(megabytes / needed)
            if self._slots == 0:
                raise ConfigError(
                    "too little memory for profiles", where="data.profile_megabytes",
                    got=megabytes, expected=f"at least {needed:.2g}: two samples of each tissue",
                )  # fmt: skip
        self._held: dict[int, Profiles] = {}
        self._lock = Lock()

    def at(self, batch: int) -> Profiles:
        """Return the profiles that batch number ``batch`` is mixed from."""
        is_fixed = self._is_whole and not self._in_atlas
        selection = 0 if is_fixed else batch // _POOL_BATCHES
        with self._lock:
            if selection not in self._held:
                for old in sorted(self._held)[:-1]:  # a batch may still be drawn from the last
                    del self._held[old]
                self._held[selection] = self._read(selection)
            return self._held[selection]

    def _read(self, selection: int) -> Profiles:
        rng = np.random.default_rng([self._seed, selection])
        chosen = [
            rows if len(rows) <= self._slots else rng.choice(rows, self._slots, replace=False)
            for rows in self._rows
        ]
        number = np.array([len(rows) for rows in chosen])
        tissue = np.repeat(np.arange(len(chosen)), number)
        positions = np.concatenate(chosen)
        in_file_order = np.argsort(positions)
        beta = np.empty((len(positions), len(self._atlas.regions)), np.float32)
        counts = self._pure.take(positions[in_file_order]).rows()
        for row, (methylated, coverage) in zip(in_file_order, counts, strict=True):
            beta[row] = smoothed_beta(methylated, coverage, self._atlas.mean[tissue[row]])
        first = np.cumsum(number) - number
        estimator = self._enter_virtual_world(beta, first, rng) if self._in_atlas else None
        return Profiles(
            torch.from_numpy(beta).to(self._device),
            torch.from_numpy(first),
            torch.from_numpy(number),
            estimator,
        )

    def _enter_virtual_world(
        self,
        beta: Float[np.ndarray, "P R"],
        first: Int[np.ndarray, " T"],
        rng: np.random.Generator,
    ) -> AtlasEstimator:
        """Turn real donors into virtual ones, in place, and return what is known of the atlas."""
        known = np.empty_like(self._atlas.mean)
        for tissue, donors in enumerate(np.split(beta, first[1:])):
            mean, n_donors = self._atlas.mean[tissue], len(self._rows[tissue])
            deviation = _deviations(donors, mean, self._atlas.rho, n_donors, rng)
            shape = (len(donors), len(mean))
            donors[:] = mean + _shuffled(deviation, shape, rng)
            np.clip(donors, 0, 1, out=donors)
            error = _shuffled(deviation, (n_donors, len(mean)), rng).mean(axis=0)
            known[tissue] = mean + error
        atlas = replace(self._atlas, mean=known.clip(1e-3, 1 - 1e-3))
        return AtlasEstimator(atlas, read_effect=self._read_effect).to(self._device)


def _deviations(
    donors: Float[np.ndarray, "D R"],
    mean: Float[np.ndarray, " R"],
    rho: Float[np.ndarray, " R"],
    n_donors: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "D R"]:
    """Return deviations from the mean of n donors, these among them, as wide as from the truth.

    Their variance is (1 - 1/n) of a donor's. Of a single donor nothing is seen: its deviations
    are drawn as the atlas expects them.
    """
    if n_donors == 1:
        spread = np.sqrt(rho * mean * (1 - mean))
        drawn = rng.standard_normal(donors.shape, dtype=np.float32) * spread
        return np.asarray(drawn, dtype=np.float32)
    return np.asarray((donors - mean) * np.float32(np.sqrt(n_donors / (n_donors - 1))))


def _shuffled(
    deviation: Float[np.ndarray, "D R"], shape: tuple[int, int], rng: np.random.Generator
) -> Float[np.ndarray, "n R"]:
    """Draw each region's deviation from those of the donors."""
    return np.take_along_axis(deviation, rng.integers(0, len(deviation), shape), axis=0)
