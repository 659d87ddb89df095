"""A component that is in a sample and not in the atlas, for `deconv.baselines.em`.

One sample cannot tell a little of something very different from a lot of something
slightly different, so a profile free in each region takes the noise, or the whole sample.
The unknown tissue is therefore held to be what tissues are: in each region either
methylated or not. Before the sample is seen, a region is methylated in it as often as in
the atlas' tissues; which of the two it is follows from the sample, and is summed over,
not chosen.

Shape letters: B = samples, T = tissues, K = T + 1, R = regions, c = regions of
a chunk.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from deconv.baselines.least_squares import blocks

CHUNK = 4096
"""Regions worked on at a time, so that a block of samples stays in the cache."""
_LOW, _HIGH = 0.1, 0.9  # beta values of the two states, unless the atlas has more extreme ones
_READ_EFFECT = 2.5  # observations that tell as much as one: calls of a read agree (4 of rho .5)
_EPS = 1e-6


class Unknown:
    """The two states of each region and their prior odds.

    The prior is the atlas' mean at the region with one tissue more that is half
    methylated: beta values (T mean + 1/2) / (T + 1), as a share of the way from the low
    state to the high one, at least 1 / 2(T + 1) and at most one minus that.
    """

    def __init__(self, profiles: Float[Tensor, "T R"]) -> None:
        n = len(profiles) + 1
        self.profiles = profiles
        self.low = profiles.amin(dim=0).clamp(max=_LOW)
        self.high = profiles.amax(dim=0).clamp(min=_HIGH)
        expected = (profiles.sum(dim=0) + 0.5) / n
        share = (expected - self.low) / (self.high - self.low)
        self.log_odds = torch.logit(share.clamp(0.5 / n, 1 - 0.5 / n))

    def em_step(
        self,
        proportions: Float[Tensor, "B K"],
        methylated: Float[Tensor, "B R"],
        unmethylated: Float[Tensor, "B R"],
        total: Float[Tensor, "B 1"],
    ) -> Float[Tensor, "B K"]:
        """Return each component's expected share of the observations; the unknown is last."""
        share = torch.zeros_like(proportions)
        for columns in blocks(self.profiles.shape[1], CHUNK):
            share += self._share(
                proportions, methylated[:, columns], unmethylated[:, columns], columns
            )
        expected = proportions * share / total
        return expected / expected.sum(dim=1, keepdim=True)  # 1 up to rounding

    def _share(
        self,
        proportions: Float[Tensor, "B K"],
        methylated: Float[Tensor, "B c"],
        unmethylated: Float[Tensor, "B c"],
        columns: slice,
    ) -> Float[Tensor, "B K"]:
        """Sum over regions of the chance of each call in a component, relative to all's."""
        profiles, at_high, at_low = (
            self.profiles[:, columns], self.high[columns], self.low[columns],
        )  # fmt: skip
        beta, unknown = proportions[:, :-1] @ profiles, proportions[:, -1:]
        high = torch.addcmul(beta, unknown, at_high).clamp_(_EPS, 1 - _EPS)
        low = torch.addcmul(beta, unknown, at_low).clamp_(_EPS, 1 - _EPS)
        is_high = self._chance_of_high(high, low, methylated, unmethylated, self.log_odds[columns])
        is_low = 1 - is_high
        # Methylated and unmethylated calls of regions in either state, over their chance.
        high_1, high_0 = methylated * is_high / high, unmethylated * is_high / (1 - high)
        low_1, low_0 = methylated * is_low / low, unmethylated * is_low / (1 - low)
        up, down = high_1 + low_1, high_0 + low_0
        unmethylated_sum = down.sum(dim=1, keepdim=True)
        of_tissues = (up - down) @ profiles.T
        of_unknown = (high_1 - high_0) @ at_high + (low_1 - low_0) @ at_low
        return torch.cat([of_tissues, of_unknown[:, None]], dim=1) + unmethylated_sum

    @staticmethod
    def _chance_of_high(
        high: Float[Tensor, "B c"],
        low: Float[Tensor, "B c"],
        methylated: Float[Tensor, "B c"],
        unmethylated: Float[Tensor, "B c"],
        log_odds: Float[Tensor, " c"],
    ) -> Float[Tensor, "B c"]:
        """Return the posterior of the methylated state given a region's observations.

        Counted as independent, calls that agree because they are on one read look like a
        rare state; that alone makes complete samples 40 % unknown at 5 reads a region.
        """
        evidence = methylated * (high / low).log_()
        evidence.addcmul_(unmethylated, ((1 - high) / (1 - low)).log_())
        return evidence.div_(_READ_EFFECT).add_(log_odds).sigmoid_()
