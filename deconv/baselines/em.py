"""Maximum likelihood by expectation-maximisation over single CpG observations.

Shape letters: N = samples, B = samples of a block, T = tissues, K = components (the tissues
and any unknown one), R = regions.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deconv.atlas import Atlas
from deconv.baselines.least_squares import as_deconvolution, blocks
from deconv.baselines.unknown import Unknown
from deconv.counts import RegionCounts
from deconv.errors import InputError
from deconv.metrics import PRESENT_FROM
from deconv.predictor import MIN_OVERLAP, Deconvolution, observed_at

_BLOCK = 32  # samples
_TOLERANCE = 3e-6  # change of any proportion in one EM step
_MAX_CYCLES = 100  # of three EM steps
_FIRST_UNKNOWN = 0.01
_RESTORED = 1e-3  # a tissue can return that only the unknown's absence had ruled out
_KEPT = 0.1  # of a proportion, at least, in an extrapolation: from near 0 EM returns slowly
_OVERSHOT = 10.0  # times the step before: 1 refuses many good leaps, and triples the time


class Observations(NamedTuple):
    """CpG observations of samples; each counts as one, whatever read it is on."""

    methylated: Float[Tensor, "B R"]
    unmethylated: Float[Tensor, "B R"]
    total: Float[Tensor, "B 1"]

    @classmethod
    def of(
        cls,
        methylated: Int[np.ndarray, "B R"],
        coverage: Int[np.ndarray, "B R"],
    ) -> "Observations":
        """Turn counts into tensors of one memory order, on which last digits depend."""
        k = torch.from_numpy(methylated.astype(np.float64, order="C"))
        n = torch.from_numpy(coverage.astype(np.float64, order="C"))
        return cls(k, n - k, n.sum(dim=1, keepdim=True))

    def take(self, rows: Tensor) -> "Observations":
        """Return those of some samples."""
        return Observations(*(part[rows] for part in self))


Step = Callable[[Float[Tensor, "B K"], Observations], Float[Tensor, "B K"]]


class BinomialEM:
    """EM of the model of CelFiE [1]_ with the reference profiles fixed.

    Parameters
    ----------
    n_unknown
        1 for a component beside the atlas' tissues, see `deconv.baselines.unknown`. Its
        profile is that of each sample alone, where CelFiE estimates it across samples: so
        a sample's result does not depend on its company.

    Raises
    ------
    InputError
        If ``n_unknown`` is neither 0 nor 1.

    References
    ----------
    .. [1] Caggiano et al. (2021), https://doi.org/10.1038/s41467-021-22901-x
    """

    def __init__(
        self, atlas: Atlas, *, n_unknown: int = 0, min_overlap: float = MIN_OVERLAP
    ) -> None:
        if n_unknown not in (0, 1):
            raise InputError("unknown components", got=n_unknown, expected="0 or 1")
        self.atlas, self.n_unknown, self.min_overlap = atlas, n_unknown, min_overlap

    def predict(self, counts: RegionCounts) -> Deconvolution:
        """Deconvolve samples, the known tissues scaled to sum 1; errors as of the network."""
        result, _ = self.predict_with_unknown(counts)
        return as_deconvolution(self.atlas, result.proportions)

    def predict_with_unknown(
        self, counts: RegionCounts
    ) -> tuple[Deconvolution, Float[np.ndarray, " N"]]:
        """Return fractions of the whole sample, and what none of the tissues is.

        A sample's proportions and its unknown fraction sum to 1.
        """
        counts = observed_at(self.atlas, counts, self.min_overlap)
        n_tissues = len(self.atlas.tissues)
        profiles = torch.from_numpy(self.atlas.mean.astype(np.float64))
        found = np.empty((len(counts), n_tissues + self.n_unknown))
        for rows in blocks(len(counts), _BLOCK):
            block = Observations.of(counts.methylated[rows], counts.coverage[rows])
            found[rows] = self._fit(profiles, block).numpy()
        known = found[:, :n_tissues]
        result = Deconvolution(self.atlas.tissues, known, known >= PRESENT_FROM)
        return result, found[:, n_tissues:].sum(axis=1)

    def _fit(self, profiles: Float[Tensor, "T R"], counts: Observations) -> Float[Tensor, "B K"]:
        n_tissues = len(profiles)
        even = profiles.new_full((len(counts.total), n_tissues), 1 / n_tissues)
        known = maximise(lambda p, part: em_step(p, profiles, part), counts, even)
        if not self.n_unknown:
            return known
        # Begun as small, it grows where the tissues leave something to explain; begun as
        # large, it first explains what is theirs, and at high depth can stay at that.
        unknown = Unknown(profiles)
        start = torch.nn.functional.pad(known.clamp(min=_RESTORED), (0, 1), value=_FIRST_UNKNOWN)
        start /= start.sum(dim=1, keepdim=True)
        return maximise(lambda p, part: unknown.em_step(p, *part), counts, start)


def em_step(
    proportions: Float[Tensor, "B T"], profiles: Float[Tensor, "T R"], counts: Observations
) -> Float[Tensor, "B T"]:
    """Return each tissue's expected share of the observations, given the proportions.

    An observation is of tissue t with probability p_t, and then methylated with
    probability a_tr; so given a methylated one, t has odds p_t a_tr, and given an
    unmethylated one p_t (1 - a_tr).
    """
    beta = proportions @ profiles
    unmethylated = counts.unmethylated / (1 - beta)
    excess = torch.div(counts.methylated, beta, out=beta).sub_(unmethylated)
    share = excess @ profiles.T + unmethylated.sum(dim=1, keepdim=True)
    expected = proportions * share / counts.total
    return expected / expected.sum(dim=1, keepdim=True)  # 1 up to rounding


def maximise(
    step: Step, counts: Observations, start: Float[Tensor, "B K"]
) -> Float[Tensor, "B K"]:
    """Repeat EM steps until they move no proportion by 3e-6, at most 300 times.

    EM takes hundreds of steps; SQUAREM (Varadhan & Roland 2008,
    https://doi.org/10.1111/j.1467-9469.2007.00585.x, its third step length) takes about
    25 to the same place. Each sample stops by itself, so that it gets alone what it gets
    among others; in double precision, as the extrapolation magnifies rounding.
    """
    result = start.clone()
    active = torch.arange(len(result))
    for _ in range(_MAX_CYCLES):
        result[active], moved = _cycle(step, result[active], counts)
        moving = moved >= _TOLERANCE
        if not moving.any():
            break
        if not moving.all():
            active, counts = active[moving], counts.take(moving)
    return result


def _cycle(
    step: Step, start: Float[Tensor, "B K"], counts: Observations
) -> tuple[Float[Tensor, "B K"], Float[Tensor, " B"]]:
    """Take two steps, extrapolate, and take one from there; return also the first's length."""
    once = step(start, counts)
    twice = step(once, counts)
    change = once - start
    bend = twice - once - change
    # Lengths below 1 would fall short of where two plain steps are.
    length = change.norm(dim=1, keepdim=True) / bend.norm(dim=1, keepdim=True).clamp(min=1e-12)
    length = length.clamp(min=1)
    leap = start + 2 * length * change + length.square() * bend
    leap = torch.maximum(leap, _KEPT * twice)
    leap = leap / leap.sum(dim=1, keepdim=True)
    landed = step(leap, counts)
    moved = change.abs().amax(dim=1)
    # A leap to where EM moves much faster than before has overshot.
    overshot = (landed - leap).abs().amax(dim=1) > _OVERSHOT * moved
    return torch.where(overshot[:, None], twice, landed), moved
