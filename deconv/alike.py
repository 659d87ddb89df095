"""What samples tell of each other, without an atlas: regions that none has, and strangers.

Shape letters: N = samples, R = regions.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from deconv.counts import Row


@dataclass(frozen=True)
class Alike:
    """What was measured of samples as a whole.

    Attributes
    ----------
    n_seen
        Samples that observe each region.
    relation
        Correlation of each sample with the mean of the others; NaN where they share less
        than three regions, or do not vary.
    """

    n_seen: Int[np.ndarray, " R"]
    relation: Float[np.ndarray, " N"]


def compare_samples(rows: Callable[[], Iterable[Row]], n_regions: int) -> Alike:
    """Compare each sample with the others, in two passes, a sample in memory at a time."""
    n_seen = np.zeros(n_regions, dtype=np.int64)
    total = np.zeros(n_regions)
    for methylated, coverage in rows():
        n_seen += coverage > 0
        total += methylated / np.maximum(coverage, 1)
    return Alike(
        n_seen, np.array([_relation(*row, total, n_seen) for row in rows()], dtype=np.float64)
    )


def _relation(
    methylated: Int[np.ndarray, " R"],
    coverage: Int[np.ndarray, " R"],
    total: Float[np.ndarray, " R"],
    n_seen: Int[np.ndarray, " R"],
) -> float:
    shared = (coverage > 0) & (n_seen > 1)
    beta = methylated[shared] / coverage[shared]
    others = (total[shared] - beta) / (n_seen[shared] - 1)
    # Sums that should be equal differ in their last bits.
    if len(beta) < 3 or min(np.ptp(beta), np.ptp(others)) < 1e-9:
        return float("nan")
    return float(np.corrcoef(beta, others)[0, 1])
