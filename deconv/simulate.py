"""A synthetic atlas: donors of many tissues, with the statistics of real ones.

The figures in `AtlasModel` are measurements on the WGBS atlas of Loyfer et al. (2023),
https://doi.org/10.1038/s41586-022-05580-6, and on plasma sequencing.

Shape letters: T = tissues, R = regions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from deconv.errors import InputError
from deconv.regions import RegionSet
from deconv.store import create_counts

LINEAGES = {
    "blood": ["Blood", "Bone"],
    "brain": ["Cerebellum", "Cortex", "Neuron", "Oligodendrocytes"],
    "vessel and muscle": ["Aorta", "Coronary", "Heart", "Skeletal"],
    "gut": ["Colon", "Gastric", "Small"],
    "gland": ["Liver", "Pancreas"],
    "urogenital": ["Bladder", "Kidney", "Prostate"],
    "skin and fat": ["Adipocytes", "Dermal", "Epidermal"],
    "lung": ["Lung"],
}
TISSUES = sorted(tissue for members in LINEAGES.values() for tissue in members)
SIMULATED_BUILD = "simulated"


@dataclass(frozen=True, kw_only=True)
class AtlasModel:
    """How methylation and coverage vary. Beta pairs are (a, b), lognormals (median, sigma).

    "Level" is the unmethylated share of a region in a tissue.
    """

    marker_share: float = 0.9
    """Regions that mark a tissue; the rest have the same level in all tissues."""
    hypermethylated_share: float = 0.03
    """Markers that are methylated, not unmethylated, in their tissue."""
    target_level: tuple[float, float] = (5.5, 0.8)
    """Level in the tissue marked: median .91, 10th percentile .70."""
    background_level: tuple[float, float] = (0.5, 30.0)
    """Level in the other tissues: median .01."""
    lineage_sharing: tuple[float, float] = (0.4, 3.0)
    """Share of the target's level that each relative shows."""
    donor_rho: tuple[float, float] = (0.01, 1.1)
    """Between-donor beta-binomial correlation of a region."""
    cpgs: tuple[float, float] = (8.0, 0.52)
    """CpGs in a region: 5th to 95th percentile 5 to 20 after rounding."""
    cpgs_per_read: int = 4
    read_correlation: float = 0.5
    """Correlation of the calls within one read (co-methylation)."""
    region_size: float = 1.5
    """Negative-binomial size of the coverage between regions, shared by all samples."""
    library_sigma: float = 0.25
    """Spread of sequencing depth between samples, on the log scale."""
    residual_dispersion: float = 0.05
    """Squared coefficient of variation of coverage after region and library."""


def simulate_atlas(
    path: Path,
    *,
    n_regions: int,
    n_donors: int,
    depth: float,
    seed: int,
    tissues: Sequence[str] = TISSUES,
    model: AtlasModel | None = None,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Write pure samples of ``n_donors`` donors of each tissue, one sample at a time.

    Parameters
    ----------
    path
        New ``.h5ad`` file; an existing one is replaced when the new one is whole.
    n_regions
        Any number; about 40 a tissue are a small panel, 51,089 a large one.
    depth
        Mean number of CpG observations of a region.
    seed
        The same seed gives the same file content.
    model
        What is simulated; by default as in real data.
    advance
        Called after each sample, for a progress bar.

    Raises
    ------
    InputError
        If a number is not positive, or a tissue is named twice.
    """
    for name, value in (("regions", n_regions), ("donors", n_donors), ("depth", depth)):
        if not value > 0:
            raise InputError(f"{name} must be positive", got=value)
    if len(set(tissues)) < len(tissues) or len(tissues) < 2:
        raise InputError("tissues must be two or more, all different", got=list(tissues))
    model = model or AtlasModel()
    region_seed, *sample_seeds = np.random.SeedSequence(seed).spawn(1 + len(tissues) * n_donors)
    rng = np.random.default_rng(region_seed)
    level = tissue_levels(n_regions, tissues, model, rng)
    rho = _lognormal(model.donor_rho, n_regions, rng).clip(1e-4, 0.3)
    n_cpgs = _lognormal(model.cpgs, n_regions, rng).round().clip(5, 40)
    expected = n_cpgs * rng.gamma(model.region_size, size=n_regions)
    expected *= depth / expected.mean()

    names = [(t, f"{t}-{d}") for t in tissues for d in range(1, n_donors + 1)]
    samples = pd.DataFrame(names, columns=["tissue", "donor"])
    samples.index = pd.Index(samples["donor"], name="sample")
    with create_counts(path, _place_regions(n_cpgs, rng), samples) as writer:
        for (tissue, _), sample_seed in zip(names, sample_seeds, strict=True):
            rng = np.random.default_rng(sample_seed)
            beta = _donor_beta(1 - level[list(tissues).index(tissue)], rho, rng)
            writer.append(*_draw_counts(beta, expected, model, rng))
            advance()


def tissue_levels(
    n_regions: int, tissues: Sequence[str], model: AtlasModel, rng: np.random.Generator
) -> Float[np.ndarray, "T R"]:
    """Draw the mean unmethylated share of each region in each tissue.

    Regions mark the tissues in equal numbers, in random order. The relatives of the
    tissue that a region marks show part of its level; see `LINEAGES`.
    """
    n_tissues = len(tissues)
    lineage = {t: name for name, members in LINEAGES.items() for t in members}
    related = np.array(
        [[lineage.get(a, a) == lineage.get(b, b) for b in tissues] for a in tissues]
    )
    target = rng.permutation(np.arange(n_regions) % n_tissues)
    is_target = np.arange(n_tissues)[:, None] == target

    background = rng.beta(*model.background_level, size=(n_tissues, n_regions))
    top = rng.beta(*model.target_level, size=n_regions)
    shared = top * rng.beta(*model.lineage_sharing, size=(n_tissues, n_regions))
    level = np.where(related[target].T, np.maximum(shared, background), background)
    level = np.where(is_target, top, level)

    flipped = rng.random(n_regions) < model.hypermethylated_share
    level[:, flipped] = 1 - level[:, flipped]
    common = rng.random(n_regions) >= model.marker_share
    level[:, common] = rng.random(n_regions)[common]
    return np.asarray(level)


def _donor_beta(
    mean: Float[np.ndarray, " R"], rho: Float[np.ndarray, " R"], rng: np.random.Generator
) -> Float[np.ndarray, " R"]:
    mean, total = mean.clip(1e-4, 1 - 1e-4), 1 / rho - 1
    return rng.beta(mean * total, (1 - mean) * total)


def _draw_counts(
    beta: Float[np.ndarray, " R"],
    expected: Float[np.ndarray, " R"],
    model: AtlasModel,
    rng: np.random.Generator,
) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " R"]]:
    """Draw reads of `cpgs_per_read` CpGs: some all alike, in the others each CpG for itself."""
    noise = rng.gamma(1 / model.residual_dispersion, model.residual_dispersion, size=beta.shape)
    library = rng.lognormal(-(model.library_sigma**2) / 2, model.library_sigma)
    n_reads = rng.poisson(expected * library * noise / model.cpgs_per_read)
    n_alike = rng.binomial(n_reads, model.read_correlation)
    methylated = model.cpgs_per_read * rng.binomial(n_alike, beta)
    methylated += rng.binomial(model.cpgs_per_read * (n_reads - n_alike), beta)
    return methylated, model.cpgs_per_read * n_reads


def _place_regions(n_cpgs: Float[np.ndarray, " R"], rng: np.random.Generator) -> RegionSet:
    """Lay regions of about 37 bp a CpG one after the other on 22 chromosomes."""
    length = np.maximum(n_cpgs * 300 / 8 * rng.lognormal(0, 0.3, n_cpgs.shape), 50).astype(int)
    gap = rng.integers(1_000, 50_000, n_cpgs.shape)
    chrom = np.sort(rng.integers(1, 23, n_cpgs.shape))
    end = np.cumsum(length + gap)
    offset = np.array([end[chrom < c].max(initial=0) for c in range(1, 23)])[chrom - 1]
    return RegionSet(
        np.char.add("chr", chrom.astype(str)), end - offset - length, end - offset, SIMULATED_BUILD
    )


def _lognormal(
    median_sigma: tuple[float, float], n: int, rng: np.random.Generator
) -> Float[np.ndarray, " n"]:
    median, sigma = median_sigma
    return np.asarray(median * rng.lognormal(0, sigma, n))
