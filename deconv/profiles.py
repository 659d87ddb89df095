"""Profiles of pure samples on the device, as many as memory is given for.

Shape letters: D = samples, P = profiles held, T = tissues, R = regions.
"""

from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deconv.atlas import Atlas, smoothed_beta
from deconv.counts import Samples
from deconv.errors import ConfigError, MismatchError

_POOL_BATCHES = 64  # that a pool serves; reading one then costs little beside them


@dataclass(frozen=True)
class Profiles:
    """Beta values of samples, grouped by tissue."""

    beta: Float[Tensor, "P R"]
    first: Int[Tensor, " T"]
    number: Int[Tensor, " T"]


class ProfilePool:
    """The samples that mixtures are drawn from: all of them, or changing selections.

    A set that exceeds the memory is read from its file again and again, as many samples of
    each tissue at a time as half of it holds (the next selection is read while one is used).

    Parameters
    ----------
    pure, atlas, in_atlas
        As of `deconv.mixtures.MixingEngine`.
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
        megabytes: float,
        seed: int,
        device: torch.device,
    ) -> None:
        tissues = set(pure.samples["tissue"])
        if tissues != set(atlas.tissues):
            odd = sorted(tissues ^ set(atlas.tissues))
            raise MismatchError("tissues differ from the atlas", got=f"{len(odd)}: {odd[:5]}")
        if pure.regions.content_hash != atlas.regions.content_hash:
            raise MismatchError("the samples are at other regions than the atlas")
        of_tissue = np.array([atlas.tissues.index(t) for t in pure.samples["tissue"]])
        self._pure, self._atlas, self._in_atlas = pure, atlas, in_atlas
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
        selection = 0 if self._is_whole else batch // _POOL_BATCHES
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
            mean = self._atlas.mean[tissue[row]]
            beta[row] = smoothed_beta(methylated, coverage, mean)
            if self._in_atlas:
                beta[row] = _as_if_unseen(beta[row], mean, len(self._rows[tissue[row]]))
        first = np.cumsum(number) - number
        return Profiles(
            torch.from_numpy(beta).to(self._device),
            torch.from_numpy(first),
            torch.from_numpy(number),
        )


def _as_if_unseen(
    beta: Float[np.ndarray, " R"], mean: Float[np.ndarray, " R"], n_donors: int
) -> Float[np.ndarray, " R"]:
    """Widen deviations from a mean of n donors, this one included.

    Their variance is (1 - 1/n) of a donor's; that of an unseen donor is (1 + 1/n).
    """
    factor = np.float32(np.sqrt((n_donors + 1) / max(n_donors - 1, 1)))
    return np.asarray((mean + (beta - mean) * factor).clip(0, 1))
