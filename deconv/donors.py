"""Pseudo-donors of an atlas that has means only, to train a network from it.

Shape letters: R = regions.
"""

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt

from deconv.atlas import Atlas
from deconv.configuration import Section
from deconv.counts import MAX_COUNT, RegionCounts
from deconv.errors import InputError


class AssumedDonors(Section):
    """What is assumed of the donors of an atlas that has means only.

    Attributes
    ----------
    rho
        Between-donor dispersion, see `deconv.atlas.Atlas`; the median of real atlases is .02
        to .03. There is no default: all that a model learns of donors rests on it.
    donors
        How many are drawn of each tissue, those held out included.
    coverage
        Observations of a region in each.
    """

    rho: float = Field(gt=0, lt=1)
    donors: PositiveInt = 20
    coverage: float = Field(200.0, gt=0)


def donors_from_means(atlas: Atlas, *, n_donors: int, coverage: float, seed: int) -> RegionCounts:
    """Draw donors of each tissue from the atlas' mean and rho.

    An assumption, not data: a donor's beta value is beta-distributed with the atlas' mean
    and variance rho x mean x (1 - mean), and all regions vary independently. Real donors
    deviate in many regions at once, so what a model shows on such donors is an upper bound.

    Parameters
    ----------
    coverage
        Observations of a region of mean coverage (the atlas' profile is 1); they are
        binomial and the same in all donors.
    seed
        With tissue and number, it determines a donor: more donors leave the first ones.

    Returns
    -------
    Counts of ``n_donors`` samples of each tissue, with columns ``tissue`` and ``donor``.

    Raises
    ------
    InputError
        If a number is not positive, or the coverage too large for a count.
    """
    if n_donors < 1:
        raise InputError("n_donors must be positive", got=n_donors)
    observed = np.rint(coverage * atlas.profile.astype(np.float64)).astype(np.int64)
    if not coverage > 0 or observed.max() > MAX_COUNT or not observed.any():
        raise InputError(
            "coverage is out of range", got=coverage, expected=f"above 0, at most {MAX_COUNT}"
        )
    names, methylated = [], []
    total = 1 / atlas.rho.astype(np.float64) - 1
    for t, (tissue, mean) in enumerate(zip(atlas.tissues, atlas.mean, strict=True)):
        for donor in range(n_donors):
            rng = np.random.default_rng([seed, t, donor])
            beta = rng.beta(mean * total, (1 - mean) * total)
            methylated.append(rng.binomial(observed, beta).astype(np.int32))
            names.append((tissue, f"{tissue}-{donor + 1}"))
    samples = pd.DataFrame(names, columns=["tissue", "donor"])
    samples.index = pd.Index(samples["donor"], name="sample")
    return RegionCounts(
        np.stack(methylated),
        np.tile(observed.astype(np.int32), (len(names), 1)),
        atlas.regions,
        samples,
    )
