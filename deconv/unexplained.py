r"""DNA from tissues that the atlas lacks: how much there is, and what it must not become.

A tissue that the atlas lacks is unmethylated where no known mixture would be, and its
relatives would be given part of it. So in a sample that does not fit, the regions that
misfit most are set aside as not observed and the rest is deconvolved again, until they no
longer change. The unknown tissue then is a further column that looks like no tissue in
particular (each region's median over the atlas): its fraction is what the known tissues'
own markers leave of the sum 1.

Shape letters: B = samples, R = regions, T = tissues.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deconv.model import TwoStageNetwork
from deconv.output import Output, called
from deconv.posterior import refit_called

_SET_ASIDE = 3.0
"""Standard deviations from which on a region is set aside; 0.3 % of those that fit are."""
_ROUNDS = 4
SMALLEST_UNKNOWN = 0.125
"""Share from which a misfit is taken to be a tissue's, not that of another batch or protocol."""

UNKNOWN_MISLEADS = 0.25
"""Standard error of a known tissue's fraction, relative to it, per odds of the unknown share:
the unknown's relatives are given some of it, others too little."""


class Explained(NamedTuple):
    """What the known tissues explain of samples, and the share that they do not."""

    output: Output
    proportions: Float[Tensor, "B T"]
    call: Bool[Tensor, "B T"]
    unknown: Float[Tensor, " B"]

    def take(self, rows: Bool[Tensor, " B"]) -> "Explained":
        """Return some of the samples."""
        kept: Any = [None if part is None else part[rows] for part in self.output]
        return Explained(
            Output(*kept), self.proportions[rows], self.call[rows], self.unknown[rows]
        )


def set_apart(
    network: TwoStageNetwork,
    methylated: Float[Tensor, "B R"],
    coverage: Float[Tensor, "B R"],
    proportions: Float[Tensor, "B T"],
    threshold: Float[Tensor, " T"],
) -> Explained:
    """Deconvolve samples of which the atlas lacks a tissue.

    Parameters
    ----------
    proportions
        A first answer.
    threshold
        Probability, before calibration, from which each tissue is called.

    Returns
    -------
    The network's output on the regions kept, the calls, and proportions that sum to 1 with
    the unknown share.
    """
    estimator = network.estimator
    for _ in range(_ROUNDS):
        kept = estimator.residuals(methylated, coverage, proportions).abs() < _SET_ASIDE
        seen = (methylated * kept, coverage * kept)
        output = network(*seen)
        call = called(output, threshold)
        solved = _with_unknown(network, output, *seen, call)
        known = solved[:, :-1]
        # Against the residuals of the whole: the unknown looks like the median tissue there.
        proportions = known / known.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return Explained(output, solved[:, :-1], call, solved[:, -1])


def _with_unknown(
    network: TwoStageNetwork,
    output: Output,
    methylated: Float[Tensor, "B R"],
    coverage: Float[Tensor, "B R"],
    call: Bool[Tensor, "B T"],
) -> Float[Tensor, "B columns"]:
    """Return fractions of the called tissues and, last, of the unknown; they sum to 1."""
    estimator = network.estimator
    assert output.gram is not None
    assert output.moment is not None
    plain = estimator.mean.median(dim=0).values - estimator.reference
    features, weight = estimator.features(methylated, coverage)
    weighted = features * estimator.scale  # precision x centred beta value
    held = output.gram.mean(dim=(1, 2))  # of the sum, which the unknown is a part of
    with_known = (weight * plain) @ estimator.centred.T + held[:, None]
    own = (weight * plain.square()).sum(dim=1) + held
    gram = torch.cat(
        [
            torch.cat([output.gram, with_known[:, :, None]], dim=2),
            torch.cat([with_known, own[:, None]], dim=1)[:, None, :],
        ],
        dim=1,
    )
    moment = torch.cat([output.moment, (weighted @ plain + held)[:, None]], dim=1)
    is_open = torch.cat([call, torch.ones_like(call[:, :1])], dim=1)
    fractions = refit_called(gram, moment, is_open).clamp(min=0)
    return fractions / fractions.sum(dim=1, keepdim=True).clamp(min=1e-6)
