"""What validation mixtures teach about a network's answers: calibration of its certainty.

Validation donors are in neither training nor test, so that the errors on them are those of
an unseen patient. All of it is a few numbers, which ship with the network.

Shape letters: N = samples, T = tissues, K = depths.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from deconv.errors import CheckpointError

NOMINAL = 0.95
"""Share of true fractions that intervals are to contain."""
_FEW_DONORS = 1.04
"""Intervals are that much wider than validation mixtures need: those are of few donors, whose
errors are alike, and the width that suits them does not suit others as well."""
_LARGEST_SHARE = 0.99  # of complete validation mixtures that fit better than what is flagged
_PER_DEPTH = 100  # validation mixtures behind the figures of a depth
_GRID = np.linspace(-3, 3, 61)  # thresholds tried, as logits
_POOLED = 4.0  # weight of all tissues' mean cost in the threshold of one


@dataclass(frozen=True)
class Calibration:
    """Figures measured on validation mixtures.

    Attributes
    ----------
    slope, offset
        Presence probability = sigmoid(slope x logit + offset) (Platt scaling).
    thresholds
        Probability from which each tissue is called, [T].
    depth
        Mean coverages at which the next three were measured, ascending, [K]; between them
        they are interpolated on a log scale, beyond them they are constant.
    width
        Half width of a 95 % interval in standard errors, [K].
    misfit, misfit_limit
        Typical misfit (`AtlasEstimator.misfit`) of a complete mixture, and the value that
        1 % of them exceed, [K].
    protocol
        Effects that a typical mixture has, see `deconv.protocol`; None (of earlier versions)
        if samples are to be taken as they are.
    loss
        Likewise, of contrast, see `deconv.attenuation`.
    """

    slope: float
    offset: float
    thresholds: list[float]
    depth: list[float]
    width: list[float]
    misfit: list[float]
    misfit_limit: list[float]
    protocol: list[float] | None = None
    loss: float | None = None

    def probability(self, logits: Float[np.ndarray, "N T"]) -> Float[np.ndarray, "N T"]:
        """Return calibrated presence probabilities."""
        return np.asarray(expit(self.slope * logits + self.offset))

    def threshold_logits(self) -> Float[np.ndarray, " T"]:
        """Return the network's logit from which each tissue is called."""
        return np.asarray((logit(np.array(self.thresholds)) - self.offset) / self.slope)

    def at(self, name: str, depth: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """Return ``width``, ``misfit`` or ``misfit_limit`` at samples' mean coverage."""
        values = getattr(self, name)
        return np.asarray(np.interp(np.log(depth.clip(min=1e-3)), np.log(self.depth), values))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any], n_tissues: int) -> "Calibration":
        """Restore what `to_dict` returned.

        Raises
        ------
        CheckpointError
            If a part is missing, or sizes do not fit.
        """
        try:
            calibration = cls(**saved)
            sizes = {len(getattr(calibration, k)) for k in ("depth", *_BY_DEPTH)}
            fits = len(calibration.thresholds) == n_tissues and len(sizes) == 1
            fits &= calibration.protocol is None or len(calibration.protocol) == 2
        except TypeError as error:
            raise CheckpointError("not a calibration", got=error) from error
        if not fits or not calibration.depth or not calibration.slope > 0:
            raise CheckpointError("a calibration of another size, or without a slope")
        return calibration


_BY_DEPTH = ("width", "misfit", "misfit_limit")


def fit_presence(
    logits: Float[np.ndarray, "N T"], present: Bool[np.ndarray, "N T"], *, called_from: float
) -> tuple[float, float, list[float]]:
    """Return slope, offset and thresholds.

    A tissue's threshold is the one of least cost on its own samples and, so that few samples
    do not decide alone, on those of all tissues. A false call costs ``called_from``, a missed
    tissue 1 - ``called_from``: at .5 the cost is the number of wrong calls.
    """
    n_tissues = present.shape[1]
    if present.all() or not present.any():
        return 1.0, 0.0, [called_from] * n_tissues
    scaling = LogisticRegression(C=100.0).fit(logits.reshape(-1, 1), present.ravel())
    slope, offset = float(scaling.coef_[0, 0]), float(scaling.intercept_[0])
    if slope <= 0:  # a network that has not learned presence: leave it as it is
        slope, offset = 1.0, 0.0
    calibrated = slope * logits + offset
    base = float(logit(called_from))
    call = calibrated[None] > (base + _GRID)[:, None, None]
    cost = called_from * (call & ~present).sum(axis=1) + (1 - called_from) * (~call & present).sum(
        axis=1
    )
    cost = cost + _POOLED * cost.mean(axis=1, keepdims=True)
    # Of equal costs the one nearest to the base.
    best = [min(range(len(_GRID)), key=lambda i: (c[i], abs(_GRID[i]))) for c in cost.T]
    return slope, offset, [float(expit(base + _GRID[i])) for i in best]


def fit_by_depth(
    depth: Float[np.ndarray, " N"],
    ratio: Float[np.ndarray, "N T"],
    misfit: Float[np.ndarray, " N"],
) -> dict[str, list[float]]:
    """Return the figures that depend on depth, from groups of mixtures of similar depth.

    Parameters
    ----------
    depth
        Mean coverage of each mixture.
    ratio
        Error of each present tissue in standard errors; NaN for the others.
    misfit
        Of each mixture.
    """
    order = np.argsort(depth, kind="stable")
    groups = np.array_split(order, max(len(order) // _PER_DEPTH, 1))
    found: dict[str, list[float]] = {name: [] for name in ("depth", *_BY_DEPTH)}
    # Samples of one depth are one group: interpolation needs depths that differ.
    if depth.max() < 1.05 * depth.min():
        groups = [order]
    for number, group in enumerate(groups):
        # Tails need more samples than middles: those of neighbouring depths, too.
        errors = ratio[np.concatenate(groups[max(number - 1, 0) : number + 2])]
        found["depth"].append(float(np.exp(np.log(depth[group].clip(min=1e-3)).mean())))
        found["width"].append(_FEW_DONORS * float(np.nanquantile(errors, NOMINAL)))
        found["misfit"].append(float(np.median(misfit[group])))
        found["misfit_limit"].append(float(np.quantile(misfit[group], _LARGEST_SHARE)))
    return found
