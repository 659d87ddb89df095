"""Features of samples: the passes over memory of `deconv.estimator`, each quantity read once.

Shape letters: B = samples, R = regions.
"""

from typing import no_type_check

import numpy as np

from deconv.compiled.loops import compiled_loop

_ONE = np.float32(1)


# "numpy": a quotient may be infinite, as of tensors, so that there is no branch in the loop
@compiled_loop(error_model="numpy", fastmath={"reassoc", "contract"})
@no_type_check
def weigh_roughly(
    first, stop, methylated, coverage, reference, read_variance, donor_variance, share,
    weighted, relative,
):  # fmt: skip
    """Weigh the samples from ``first`` to ``stop`` by the precision that coverage alone gives.

    Into the last two arguments: weight x deviation from the reference [B R], and the sum of
    weight x share over the regions [B].
    """
    for b in range(first, stop):
        m, n, out = methylated[b], coverage[b], weighted[b]
        total = np.float32(0)
        for j in range(len(reference)):
            inverse = _ONE / (read_variance[j] + n[j] * donor_variance[j])
            out[j] = (m[j] - n[j] * reference[j]) * inverse
            total += n[j] * inverse * share[j]
        relative[b] = total


@compiled_loop(error_model="numpy", fastmath={"contract"})
@no_type_check
def weigh(
    first, stop, methylated, coverage, reference, scale, effect, smallest, features, weight
):  # fmt: skip
    """Turn variance and mean into features and weight, in place.

    On entry ``features`` holds the donor variance of the samples' mixtures and ``weight``
    their mean.
    """
    for b in range(first, stop):
        m, n, of_donors, mean = methylated[b], coverage[b], features[b], weight[b]
        for j in range(len(reference)):
            within = min(max(mean[j], smallest), _ONE - smallest)
            inverse = _ONE / (n[j] * of_donors[j] + effect * within * (_ONE - within))
            mean[j] = n[j] * inverse
            of_donors[j] = (m[j] - n[j] * reference[j]) * inverse / scale[j]
