"""Sex, by the coverage of chromosome Y beside that of the autosomes.

Shape letters: N = samples, R = regions.
"""

import numpy as np
from jaxtyping import Int

from deconv.genomes import plain_chromosomes

_MIN_REGIONS, _MIN_READS = 3, 10.0
_FEMALE, _MALE, _MALE_SHARE = 0.05, 0.15, 0.75


def told_sex(chrom: np.ndarray, coverage: Int[np.ndarray, "N R"]) -> list[str]:
    """Return "male", "female" or, where there is too little of chromosome Y to tell, ""."""
    names = plain_chromosomes(chrom)
    on_y = names == "Y"
    autosomal = np.char.isdigit(names)
    if on_y.sum() < _MIN_REGIONS or not autosomal.any():
        return [""] * len(coverage)
    found = []
    for y, typical in zip(
        coverage[:, on_y], coverage[:, autosomal].mean(axis=1, dtype=np.float64), strict=True
    ):
        expected = 0.5 * typical  # of a male, in each region
        if expected * len(y) < _MIN_READS:
            found.append("")
        elif y.mean() < _FEMALE * typical:
            found.append("female")
        elif y.mean() > _MALE * typical and np.mean(y > 0) >= _MALE_SHARE:
            found.append("male")
        else:
            found.append("")
    return found
