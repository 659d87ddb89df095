"""Region counts on disk: AnnData ``.h5ad`` files, readable by the whole scverse.

Layout (format version 1): ``layers/methylated`` and ``layers/coverage`` [N, R] integers;
``obs`` the samples; ``var`` chrom, start, end and, if known, start_cpg, end_cpg, direction;
``obsm/proportions`` true fractions, if known; ``uns/deconv`` format version, genome build,
feature and content hash.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from jaxtyping import Int

from deconv.counts import Samples, start_hash, update_hash
from deconv.files import replacing
from deconv.regions import RegionSet

FORMAT_VERSION = 1
KEY = "deconv"
LAYERS = ("methylated", "coverage")


class CountsWriter:
    """Appends samples to an open file, in the order of its sample table."""

    def __init__(self, file: h5py.File, digest: Any, shape: tuple[int, int]) -> None:
        self._layers, self._digest, self._n_written = file["layers"], digest, 0
        self.n_samples = shape[0]
        for name in LAYERS:
            layer = self._layers.create_dataset(
                name, shape, np.int32, chunks=(1, shape[1]), compression="lzf", shuffle=True
            )
            layer.attrs["encoding-type"], layer.attrs["encoding-version"] = "array", "0.2.0"

    def append(self, methylated: Int[np.ndarray, " R"], coverage: Int[np.ndarray, " R"]) -> None:
        """Write the next sample."""
        self._layers["methylated"][self._n_written] = methylated
        self._layers["coverage"][self._n_written] = coverage
        update_hash(self._digest, methylated, coverage)
        self._n_written += 1

    def finish(self) -> str:
        """Check that all samples came and return the content hash."""
        if self._n_written != self.n_samples:
            raise ValueError(f"{self._n_written} of {self.n_samples} samples were written")
        return str(self._digest.hexdigest())


@contextmanager
def create_counts(
    path: Path,
    regions: RegionSet,
    samples: pd.DataFrame,
    proportions: pd.DataFrame | None = None,
) -> Iterator[CountsWriter]:
    """Open a new ``.h5ad`` that appears under its name once all samples are written."""
    table = anndata.AnnData(
        obs=samples,
        var=pd.DataFrame(regions.columns(), index=regions.names),
        obsm={} if proportions is None else {"proportions": proportions},
        uns={
            KEY: {
                "format_version": FORMAT_VERSION,
                "build": regions.build,
                "feature": regions.feature,
            }
        },
    )
    with replacing(path) as temporary:
        table.write_h5ad(temporary)
        with h5py.File(temporary, "r+") as file:
            digest = start_hash(regions, samples, proportions)
            writer = CountsWriter(file, digest, (len(samples), len(regions)))
            yield writer
            content_hash = file[f"uns/{KEY}"].create_dataset("content_hash", data=writer.finish())
            content_hash.attrs["encoding-type"] = "string"
            content_hash.attrs["encoding-version"] = "0.2.0"


def write_h5ad(counts: Samples, path: Path) -> None:
    """Write counts, whole or not at all."""
    with create_counts(path, counts.regions, counts.samples, counts.proportions) as writer:
        for methylated, coverage in counts.rows():
            writer.append(methylated, coverage)
