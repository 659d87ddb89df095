"""Region counts on disk: AnnData ``.h5ad`` files, readable by the whole scverse.

Layout (format version 1): ``layers/methylated`` and ``layers/coverage`` [N, R] integers;
``obs`` the samples; ``var`` chrom, start, end; ``obsm/proportions`` true fractions, if
known; ``uns/deconv`` format version, genome build, feature and content hash.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from jaxtyping import Int

from deconv.counts import RegionCounts, start_hash, update_hash
from deconv.errors import DeconvError, InputError
from deconv.files import replacing, require_file
from deconv.regions import RegionSet

FORMAT_VERSION = 1
_KEY = "deconv"


class CountsWriter:
    """Appends samples to an open file, in the order of its sample table."""

    def __init__(self, file: h5py.File, digest: Any, shape: tuple[int, int]) -> None:
        self._layers, self._digest, self._n_written = file["layers"], digest, 0
        self.n_samples = shape[0]
        for name in ("methylated", "coverage"):
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
        var=pd.DataFrame(
            {"chrom": regions.chrom.astype(str), "start": regions.start, "end": regions.end},
            index=regions.names,
        ),
        obsm={} if proportions is None else {"proportions": proportions},
        uns={
            _KEY: {
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
            content_hash = file[f"uns/{_KEY}"].create_dataset("content_hash", data=writer.finish())
            content_hash.attrs["encoding-type"] = "string"
            content_hash.attrs["encoding-version"] = "0.2.0"


def write_h5ad(counts: RegionCounts, path: Path) -> None:
    """Write counts, whole or not at all."""
    with create_counts(path, counts.regions, counts.samples, counts.proportions) as writer:
        for methylated, coverage in zip(counts.methylated, counts.coverage, strict=True):
            writer.append(methylated, coverage)


def read_h5ad(path: Path) -> RegionCounts:
    """Read counts and compare them with the hash they were written with.

    Raises
    ------
    InputError
        If the file is missing, damaged, not of this layout or version, or its content
        is not what was written.
    """
    require_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of AnnData, about files other tools wrote
            table = anndata.read_h5ad(path)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            "damaged, truncated or not an .h5ad file", where=path, got=reason
        ) from error
    if _KEY not in table.uns or not {"methylated", "coverage"} <= set(table.layers):
        raise InputError(
            "no region counts in this .h5ad", where=path, got=f"layers {sorted(table.layers)}",
            expected=f"layers methylated and coverage, and uns/{_KEY}",
        )  # fmt: skip
    header = table.uns[_KEY]
    if header.get("format_version") != FORMAT_VERSION:
        raise InputError(
            "another format version", where=path,
            got=header.get("format_version"), expected=FORMAT_VERSION,
        )  # fmt: skip
    try:
        counts = RegionCounts(
            table.layers["methylated"],
            table.layers["coverage"],
            RegionSet(
                table.var["chrom"].to_numpy(dtype=str),
                table.var["start"].to_numpy(),
                table.var["end"].to_numpy(),
                str(header["build"]),
                header["feature"],
            ),
            table.obs.apply(
                lambda column: column.astype(str) if column.dtype == "category" else column
            ),
            table.obsm.get("proportions"),
        )
    except KeyError as error:
        raise InputError("a part is missing", where=path, got=error) from error
    except DeconvError as error:
        raise InputError(str(error), where=path) from error
    if counts.content_hash != header.get("content_hash"):
        raise InputError(
            "the content is not what was written (damaged or edited)", where=path,
            got=f"hash {counts.content_hash[:12]}",
            expected=str(header.get("content_hash"))[:12],
        )  # fmt: skip
    return counts
