"""The table that people get: a result, less what the sample's data cannot tell.

Shape letters: N = samples, T = tissues.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool

from deconv.predictor import Deconvolution

NOT_ASSESSABLE = "not assessable"


def hidden_tissues(
    result: Deconvolution, assessable: Bool[np.ndarray, "N T"]
) -> Bool[np.ndarray, "N T"]:
    """Return what cannot be said for want of informative regions.

    A tissue that is called stays so if its interval excludes 0: then the other regions tell.

    Parameters
    ----------
    assessable
        Whether enough of a tissue's informative regions are observed, see `deconv.quality`.
    """
    sure = result.certainty
    told = result.call & (sure.low > 0) if sure is not None else np.zeros_like(result.call)
    return np.asarray(~assessable & ~told)


def reported_table(
    result: Deconvolution, samples: pd.Index, assessable: Bool[np.ndarray, "N T"]
) -> pd.DataFrame:
    """Return a row per sample and tissue, as `Deconvolution.table`.

    What is not assessable, for want of regions or of coverage, is called so, and its
    proportion is missing: it is not known to be 0.
    """
    table = result.table(samples)
    hidden = hidden_tissues(result, assessable).ravel()
    table["call"] = np.where(hidden, NOT_ASSESSABLE, table["call"])
    table["proportion"] = table["proportion"].mask(table["call"] == NOT_ASSESSABLE)
    return table
