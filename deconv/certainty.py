"""How sure a prediction is: intervals, limits of detection, DNA that the atlas cannot explain.

Shape letters: B = samples, T = tissues.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import norm
from torch import Tensor

from deconv.calibrate import NOMINAL, Calibration
from deconv.model import TwoStageNetwork
from deconv.output import Output, called, hard_proportions
from deconv.posterior import presence_log_odds, smallest_estimate

ASSESSABLE_BELOW = 0.1
"""Largest limit of detection with which "not detected" says anything."""
FLAGGED_FROM = 1.5
"""Misfit score of a sample with DNA that the atlas cannot explain. The donors behind the
validation mixtures are few, so that what 1 % of those exceed is no safe limit itself."""
_ONE_SIDED = float(norm.ppf(NOMINAL))
_TWO_SIDED = float(norm.ppf((1 + NOMINAL) / 2))


@dataclass(frozen=True)
class Certainty:
    """How sure a method is of each sample and tissue.

    Attributes
    ----------
    low, high
        Ends of the 95 % interval of the fraction.
    limit_of_detection
        Fraction from which on the tissue would be called in 95 of 100 samples of this
        coverage and composition; 1 if none would be.
    assessable
        False where that limit exceeds `ASSESSABLE_BELOW`: too few informative regions are
        covered, and not finding the tissue means nothing.
    out_of_atlas
        Fraction of a sample's DNA that no tissue of the atlas explains; 0 unless the sample
        is flagged by its misfit.
    misfit_score
        By how much it fits worse than a typical complete mixture, in units of what 1 % of
        those exceed: above `FLAGGED_FROM` it is flagged.
    """

    low: Float[np.ndarray, "N T"]
    high: Float[np.ndarray, "N T"]
    limit_of_detection: Float[np.ndarray, "N T"]
    assessable: Bool[np.ndarray, "N T"]
    out_of_atlas: Float[np.ndarray, " N"]
    misfit_score: Float[np.ndarray, " N"]


class Answer(NamedTuple):
    """A network's answer to a batch, before it is calibrated, and what its errors may be."""

    logits: Float[Tensor, "B T"]
    proportions: Float[Tensor, "B T"]
    call: Bool[Tensor, "B T"]
    mean: Float[Tensor, "B T"]
    """Of what is known of a called tissue; the estimate of another, 0 if that is negative."""
    std_error: Float[Tensor, "B T"]
    misfit: Float[Tensor, " B"]
    depth: Float[Tensor, " B"]


def answer(
    network: TwoStageNetwork,
    output: Output,
    methylated: Float[Tensor, "B R"],
    coverage: Float[Tensor, "B R"],
    threshold: float | Float[Tensor, " T"],
) -> Answer:
    """Return calls and proportions with standard errors.

    Parameters
    ----------
    output
        Of a two-stage network with atlas start on these counts.
    threshold
        Presence probability, before calibration, from which a tissue is called.
    """
    assert output.presence_logits is not None
    assert output.estimate is not None
    assert output.std_error is not None
    assert output.mean is not None
    assert output.deviation is not None
    call = called(output, threshold)
    proportions = hard_proportions(output, threshold)
    return Answer(
        output.presence_logits,
        proportions,
        call,
        torch.where(call, output.mean, output.estimate.clamp(0, 1)),
        torch.where(call, output.deviation, output.std_error),
        network.estimator.misfit(methylated, coverage, proportions),
        coverage.mean(dim=1),
    )


def interval(
    answer: Answer, width: Float[Tensor, "B 1"]
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Return the ends of intervals of so many standard errors that hold the proportion too.

    The proportion of a called tissue takes up the DNA of tissues too rare to be called, so it
    need not be the middle; that of a tissue not called is 0.
    """
    half = width * answer.std_error
    low = torch.minimum(answer.mean - half, answer.proportions)
    return low.clamp(0, 1), torch.maximum(answer.mean + half, answer.proportions).clamp(0, 1)


def error_ratio(answer: Answer, true: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Return how many standard errors wide an interval must be to hold the true fraction."""
    low = torch.minimum(answer.mean, answer.proportions)
    high = torch.maximum(answer.mean, answer.proportions)
    is_between = (low <= true) & (true <= high)
    ratio = (true - answer.mean).abs() / answer.std_error
    return ratio.masked_fill(is_between, 0.0)


def misfit_score(answer: Answer, calibration: Calibration) -> Float[np.ndarray, " N"]:
    """Return how badly samples fit, see `Certainty`."""
    depth = answer.depth.double().cpu().numpy()
    typical, largest = (calibration.at(name, depth) for name in ("misfit", "misfit_limit"))
    excess = answer.misfit.double().cpu().numpy() - typical
    return np.asarray(excess / np.maximum(largest - typical, 1e-3))


def certainty(
    network: TwoStageNetwork,
    output: Output,
    answer: Answer,
    calibration: Calibration,
    unknown: Float[Tensor, " B"],
) -> Certainty:
    """Return intervals, limits and the share that the atlas cannot explain.

    Parameters
    ----------
    output, answer
        On the regions that the atlas can explain.
    unknown
        Share of the DNA that it cannot, of which ``answer.proportions`` are the rest.
    """
    depth = answer.depth.double().cpu().numpy()
    # Residuals wider than those of the validation mixtures make errors as much wider.
    wider = answer.misfit.double().cpu().numpy() / calibration.at("misfit", depth)
    widths = calibration.at("width", depth) * np.sqrt(wider.clip(min=1))
    width = torch.from_numpy(widths).float().to(answer.depth.device)
    low, high = interval(answer, width[:, None])
    limit = _limit_of_detection(network, output, calibration, width[:, None] / _TWO_SIDED)
    limits = limit.double().cpu().numpy()
    return Certainty(
        low.double().cpu().numpy(),
        high.double().cpu().numpy(),
        limits,
        limits <= ASSESSABLE_BELOW,
        unknown.double().cpu().numpy(),
        misfit_score(answer, calibration),
    )


def _limit_of_detection(
    network: TwoStageNetwork,
    output: Output,
    calibration: Calibration,
    widening: Float[Tensor, "B 1"],
) -> Float[Tensor, "B T"]:
    """Return where 95 % of estimates exceed the one from which the tissue is called."""
    logits, estimate, error = output.presence_logits, output.estimate, output.std_error
    assert logits is not None
    assert estimate is not None
    assert error is not None
    # What the network adds to the posterior's log odds is taken to be the same nearby.
    added = logits - network.presence_scale * presence_log_odds(estimate, error)
    wanted = torch.from_numpy(calibration.threshold_logits()).float().to(logits.device)
    needed = (wanted - added) / network.presence_scale.clamp(min=1e-3)
    called_from = smallest_estimate(needed, error)
    return (called_from + _ONE_SIDED * widening * error).clamp(max=1)
