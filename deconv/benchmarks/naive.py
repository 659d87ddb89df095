"""The data path of the earlier attempt, as its description has it: the baseline of speed.

Each pure sample is an array of patterns [regions, 150 positions] (0 unmethylated, 1
methylated, 2 missing) in a gzip-compressed HDF5 file. A mixture reads the whole array of
each of its sources, averages it over positions, averages the sources by their fractions,
repeats the result 150 times along a new axis, and the model averages that again.
"""

import warnings
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float

N_POSITIONS = 150
CPG_SHARE = 0.032
N_SOURCES = 4  # in a mixture, the middle of "3 to 5 tissues"


def write_patterns(path: Path, *, n_samples: int, n_regions: int, seed: int) -> None:
    """Write random pure samples as the earlier attempt stored them."""
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        shape = (n_samples, n_regions, N_POSITIONS)
        stored = file.create_dataset("methylation", shape, np.uint8, compression="gzip")
        for sample in range(n_samples):
            called = rng.random(shape[1:], dtype=np.float32) < CPG_SHARE
            stored[sample] = np.where(called, rng.integers(0, 2, shape[1:], np.uint8), 2)


def draw_mixture(file: h5py.File, rng: np.random.Generator) -> Float[np.ndarray, " R"]:
    """Return the input that the earlier model made of one mixture."""
    stored = file["methylation"]
    sources = rng.choice(len(stored), N_SOURCES, replace=False)
    fractions = rng.dirichlet(np.ones(N_SOURCES))
    mixed = np.zeros(stored.shape[1], dtype=np.float32)
    for source, fraction in zip(sources, fractions, strict=True):
        patterns = stored[source].astype(np.float32)
        patterns[patterns == 2] = np.nan
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of regions without a call
            mean = np.nanmean(patterns, axis=1)
        mixed += fraction * np.nan_to_num(mean)  # not observed became unmethylated
    repeated = np.repeat(mixed[:, None], N_POSITIONS, axis=1)
    return np.asarray(repeated.mean(axis=1))
