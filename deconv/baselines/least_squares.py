"""Non-negative least squares, from sums over regions made for many samples at once.

All that least squares needs of a sample are T x T numbers and T numbers: the weighted
products of the atlas' rows with each other and with the sample. One matrix product gives
them for a block of samples; what is left to solve is tiny.

Shape letters: N = samples, B = samples of a block, T = tissues, R = regions, c = regions of
a chunk.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Num
from scipy.optimize import nnls

from deconv.atlas import Atlas
from deconv.counts import RegionCounts
from deconv.metrics import PRESENT_FROM
from deconv.predictor import MIN_OVERLAP, Deconvolution, observed_at

BLOCK = 256
"""Samples solved together; products of the atlas are made anew for each block."""
_CHUNK = 2048  # regions: 4 MB of doubles for the products, and for the weights of a block
_RANK_TOLERANCE = 1e-12  # of the largest eigenvalue; rounding reaches about 1e-14


class NonNegativeLeastSquares:
    """NNLS of the beta values on the atlas' means, scaled to sum 1 (Lawson & Hanson 1974).

    Parameters
    ----------
    weighted
        Weigh each region by its coverage, as the variance of a beta value falls with it.
        Without, each observed region counts alike.
    """

    def __init__(
        self, atlas: Atlas, *, weighted: bool = False, min_overlap: float = MIN_OVERLAP
    ) -> None:
        self.atlas, self.weighted, self.min_overlap = atlas, weighted, min_overlap

    def predict(self, counts: RegionCounts) -> Deconvolution:
        """Deconvolve samples; errors as of the network."""
        counts = observed_at(self.atlas, counts, self.min_overlap)
        solutions = np.empty((len(counts), len(self.atlas.tissues)))
        for rows in blocks(len(counts), BLOCK):
            coverage = counts.coverage[rows]
            weight = coverage if self.weighted else np.sign(coverage)
            solutions[rows] = fit(self.atlas.mean, counts.methylated[rows], coverage, weight)
        return as_deconvolution(self.atlas, solutions)


def blocks(n: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` that cover ``n`` samples."""
    return (slice(first, min(first + size, n)) for first in range(0, n, size))


def as_deconvolution(atlas: Atlas, amounts: Float[np.ndarray, "N T"]) -> Deconvolution:
    """Scale non-negative amounts to proportions, called from `PRESENT_FROM`."""
    total = amounts.sum(axis=1, keepdims=True)
    # All zero means that no tissue explains anything: then all do alike.
    even = np.full_like(amounts, 1 / amounts.shape[1])
    proportions = np.divide(amounts, total, out=even, where=total > 0)
    return Deconvolution(atlas.tissues, proportions, proportions >= PRESENT_FROM)


def fit(
    profiles: Float[np.ndarray, "T R"],
    methylated: Num[np.ndarray, "B R"],
    coverage: Num[np.ndarray, "B R"],
    weight: Num[np.ndarray, "B R"],
) -> Float[np.ndarray, "B T"]:
    """Return the non-negative amounts that fit the beta values best, without their scaling.

    Parameters
    ----------
    weight
        Of the squared residual of each beta value; 0 where coverage is 0.
    """
    gram, moment = normal_equations(profiles, methylated, coverage, weight)
    return np.stack([solve(*pair) for pair in zip(gram, moment, strict=True)])


def normal_equations(
    profiles: Float[np.ndarray, "T R"],
    methylated: Num[np.ndarray, "B R"],
    coverage: Num[np.ndarray, "B R"],
    weight: Num[np.ndarray, "B R"],
) -> tuple[Float[np.ndarray, "B T T"], Float[np.ndarray, "B T"]]:
    """Return the weighted products of atlas rows with each other and with each sample.

    In double precision: where most regions are methylated in most tissues the rows are
    nearly parallel, and squaring them squares that condition.
    """
    n_tissues, n_regions = profiles.shape
    upper = np.triu_indices(n_tissues)
    flat = np.zeros((len(weight), len(upper[0])))
    moment = np.zeros((len(weight), n_tissues))
    for columns in blocks(n_regions, _CHUNK):
        rows = profiles[:, columns].astype(np.float64)
        # One memory order, as the last digit of a matrix product depends on it.
        part = weight[:, columns].astype(np.float64, order="C")
        flat += part @ (rows[upper[0]] * rows[upper[1]]).T
        part *= methylated[:, columns]
        part /= np.maximum(coverage[:, columns], 1)
        moment += part @ rows.T
    gram = np.empty((len(weight), n_tissues, n_tissues))
    gram[:, upper[0], upper[1]] = flat
    gram[:, upper[1], upper[0]] = flat
    return gram, moment


def solve(gram: Float[np.ndarray, "T T"], moment: Float[np.ndarray, " T"]) -> np.ndarray:
    """Solve non-negative least squares given its normal equations.

    With gram = F'F, the residual of F against F'^-1 moment differs from that of the whole
    design by a constant. F is the square root by eigenvectors, not Cholesky's, as it
    exists where regions are too few to tell all tissues apart: directions that the
    observed regions do not determine are left out of it, and as in the whole design such
    a tissue then gets what its twin does not.

    Returns
    -------
    Amounts of the tissues, [T].
    """
    values, vectors = np.linalg.eigh(gram)
    known = values > _RANK_TOLERANCE * values[-1]
    root = np.sqrt(values[known])
    vectors = vectors[:, known]
    amounts, _ = nnls((vectors * root).T, (moment @ vectors) / root)
    return np.asarray(amounts)
