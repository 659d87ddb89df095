"""What accuracy is measured on: mixtures of donors that no method has seen.

Shape letters: N = samples, T = tissues, R = regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from deconv.atlas import Atlas
from deconv.counts import RegionCounts, Samples
from deconv.errors import ConfigError
from deconv.evaluate import draw_mixtures
from deconv.mixtures import MixingEngine, MixtureConfig

BATCH_SHIFT = 0.5
"""Standard deviation on the logit scale of what a laboratory's protocol adds to a region."""
UNKNOWN_SHARE = 0.2
BACKGROUND = "Blood"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A kind of sample.

    Attributes
    ----------
    design
        See `deconv.designs.DESIGNS`.
    depth
        Mean number of observations of a region.
    unseen
        Share of the regions without coverage, others in each sample.
    batch_shift
        Whether the donors are from another laboratory, see `shifted_batch`.
    gained, lost
        Share of unmethylated and of methylated observations that conversion turns into the
        other.
    lacks_tissue
        Whether the methods' atlas lacks a tissue that is a fifth of every other sample.
    n_times
        Samples, in multiples of the usual number.
    """

    name: str
    design: str
    depth: float = 5.0
    unseen: float = 0.0
    batch_shift: bool = False
    gained: float = 0.0
    lost: float = 0.0
    lacks_tissue: bool = False
    n_times: int = 1


SCENARIOS = (
    Scenario(name="pure", design="pure"),
    Scenario(name="two_tissues", design="two_tissues"),
    Scenario(name="several", design="several"),
    Scenario(name="cfdna", design="cfdna"),
    Scenario(name="titration", design="titration", depth=10, n_times=5),
    Scenario(name="several_1x", design="several", depth=1),
    Scenario(name="several_30x", design="several", depth=30),
    Scenario(name="cfdna_1x", design="cfdna", depth=1),
    Scenario(name="cfdna_30x", design="cfdna", depth=30),
    Scenario(name="unseen_10", design="several", unseen=0.1),
    Scenario(name="unseen_50", design="several", unseen=0.5),
    Scenario(name="missing_tissue", design="several", depth=10, lacks_tissue=True),
    Scenario(name="shifted_batch", design="several", batch_shift=True),
    Scenario(name="other_conversion", design="several", gained=0.01, lost=0.03),
)
QUICK = ("several", "cfdna", "unseen_50", "missing_tissue")


def pick_scenarios(names: Sequence[str] = ()) -> tuple[Scenario, ...]:
    """Return scenarios by name, all if none is named.

    Raises
    ------
    ConfigError
        If there is no such scenario.
    """
    known = {scenario.name: scenario for scenario in SCENARIOS}
    for name in names:
        if name not in known:
            raise ConfigError("no such scenario", got=name, expected=", ".join(known))
    return tuple(known[name] for name in names) or SCENARIOS


def draw_scenario(
    scenario: Scenario, donors: Samples, atlas: Atlas, *, n: int, seed: int, lacking: str
) -> RegionCounts:
    """Draw ``n`` samples of a scenario, with the truth.

    Parameters
    ----------
    donors
        Pure samples of donors to mix, of all tissues of ``atlas``.
    atlas
        Built from other donors, and with all tissues: it says how coverage varies.
    lacking
        The tissue that is missing where a scenario lacks one.
    """
    pure = donors.load()
    if scenario.batch_shift:
        pure = shifted_batch(pure, BATCH_SHIFT, seed=seed)
    if not scenario.lacks_tissue:
        drawn = _draw(pure, atlas, scenario, scenario.design, scenario.depth, n, seed)
        return misconverted(drawn, scenario.gained, scenario.lost, seed=seed)
    kept = np.flatnonzero(pure.samples["tissue"] != lacking)
    known = without_tissue(atlas, lacking)
    half = n // 2
    complete = _draw(
        pure.take(kept), known, scenario, scenario.design, scenario.depth, n - half, seed
    )
    rest = _draw(
        pure.take(kept), known, scenario, scenario.design,
        (1 - UNKNOWN_SHARE) * scenario.depth, half, seed + 1,
    )  # fmt: skip
    # The unknown tissue's reads join those of the others: counts add up as sequencing does.
    unknown = _draw(
        pure.take(np.flatnonzero(pure.samples["tissue"] == lacking)),
        _restricted(atlas, [atlas.tissues.index(lacking)]),
        scenario, "pure", UNKNOWN_SHARE * scenario.depth, half, seed + 2,
    )  # fmt: skip
    return _joined(complete, rest, unknown)


def shifted_batch(pure: RegionCounts, sigma: float, *, seed: int) -> RegionCounts:
    """Return the donors as another laboratory would see them.

    Every region's beta value is moved on the logit scale by a normal number of standard
    deviation ``sigma`` that all donors share; coverage stays.
    """
    shift = np.random.default_rng(seed).normal(0, sigma, len(pure.regions))
    coverage = pure.coverage.astype(np.float64)
    beta = (pure.methylated + 0.5) / (coverage + 1)
    methylated = np.rint(expit(logit(beta) + shift) * coverage).astype(pure.methylated.dtype)
    return replace(pure, methylated=methylated)


def misconverted(counts: RegionCounts, gained: float, lost: float, *, seed: int) -> RegionCounts:
    """Return samples as if conversion had failed, and gone too far, that often."""
    if not gained and not lost:
        return counts
    rng = np.random.default_rng(seed)
    turned = rng.binomial(counts.coverage - counts.methylated, gained)
    kept = counts.methylated - rng.binomial(counts.methylated, lost)
    return replace(counts, methylated=(kept + turned).astype(counts.methylated.dtype))


def without_tissue(atlas: Atlas, tissue: str) -> Atlas:
    """Return an atlas that lacks a tissue."""
    return _restricted(atlas, [i for i, name in enumerate(atlas.tissues) if name != tissue])


def _restricted(atlas: Atlas, rows: list[int]) -> Atlas:
    tissues = tuple(atlas.tissues[i] for i in rows)
    return replace(atlas, tissues=tissues, mean=atlas.mean[rows], n_donors=atlas.n_donors[rows])


def _draw(
    pure: RegionCounts, atlas: Atlas, scenario: Scenario, design: str, depth: float, n: int,
    seed: int,
) -> RegionCounts:  # fmt: skip
    config = MixtureConfig(
        designs={design: 1.0}, background=tuple({BACKGROUND} & set(atlas.tissues)),
        depth=(depth, depth),
        missing_regions=(scenario.unseen, scenario.unseen),
    )  # fmt: skip
    return draw_mixtures(MixingEngine(pure, atlas, config, seed=seed, in_atlas=False), n)


def _joined(complete: RegionCounts, rest: RegionCounts, unknown: RegionCounts) -> RegionCounts:
    assert complete.proportions is not None
    assert rest.proportions is not None
    truth = pd.concat([complete.proportions, (1 - UNKNOWN_SHARE) * rest.proportions])
    samples = pd.DataFrame(
        index=pd.Index([f"mixture-{i}" for i in range(len(truth))], name="sample")
    )
    return replace(
        complete,
        methylated=np.concatenate([complete.methylated, rest.methylated + unknown.methylated]),
        coverage=np.concatenate([complete.coverage, rest.coverage + unknown.coverage]),
        samples=samples,
        proportions=truth.set_index(samples.index),
    )
