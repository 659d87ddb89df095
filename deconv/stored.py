"""Region counts read from disk, whole or sample by sample; `deconv.store` has the layout."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata._io.specs.registry import IORegistryError  # nowhere public
from anndata.io import read_elem
from jaxtyping import Int

from deconv.counts import RegionCounts, Row, Samples, start_hash, update_hash
from deconv.errors import DeconvError, InputError
from deconv.files import require_file
from deconv.regions import RegionSet
from deconv.store import FORMAT_VERSION, KEY, LAYERS

_DAMAGE = (
    OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError, IORegistryError
)  # fmt: skip
"""What h5py and AnnData raise about files that are not as they were written."""


@dataclass(frozen=True, eq=False)
class StoredCounts(Samples):
    """Counts in an open ``.h5ad``, read as they are asked for.

    ``positions`` are the rows in the file of the samples here. The file stays open, so that
    another that is put in its place meanwhile is not read.
    """

    path: Path
    layers: h5py.Group
    positions: Int[np.ndarray, " N"]
    regions: RegionSet
    samples: pd.DataFrame
    proportions: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()

    def rows(self) -> Iterator[Row]:
        """Yield the counts of each sample; no more than a chunk of the file is in memory."""
        layers = [self.layers[name] for name in LAYERS]
        step = max(layer.chunks[0] if layer.chunks else 1 for layer in layers)
        for chunk, positions in groupby(self.positions, lambda position: position // step):
            try:
                held = [layer[chunk * step : (chunk + 1) * step] for layer in layers]
            except OSError as error:
                raise InputError("damaged", where=self.path, got=error) from error
            for position in positions:
                row = position - chunk * step
                yield held[0][row], held[1][row]

    def take(self, rows: Sequence[int] | Int[np.ndarray, " n"]) -> "StoredCounts":
        """Return the samples at these positions."""
        index = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            positions=self.positions[index],
            samples=self.samples.iloc[index],
            proportions=None if self.proportions is None else self.proportions.iloc[index],
        )

    def labelled(self, samples: pd.DataFrame) -> "StoredCounts":
        """Return the same counts with another sample table."""
        return replace(self, samples=samples)

    def load(self) -> RegionCounts:
        """Return all samples in memory."""
        shape = (len(self), len(self.regions))
        methylated, coverage = (np.empty(shape, self.layers[name].dtype) for name in LAYERS)
        for row, counts in enumerate(self.rows()):
            methylated[row], coverage[row] = counts
        return RegionCounts(methylated, coverage, self.regions, self.samples, self.proportions)


def read_h5ad(path: Path) -> RegionCounts:
    """Read counts into memory; see `open_h5ad` for the errors."""
    counts = open_h5ad(path)
    with counts.layers.file:
        return counts.load()


def open_h5ad(path: Path) -> StoredCounts:
    """Open counts, after one pass that compares them with the hash they were written with.

    Raises
    ------
    InputError
        If the file is missing, damaged, not of this layout or version, or its content
        is not what was written.
    """
    require_file(path)
    try:
        file = h5py.File(path)
    except OSError as error:
        raise InputError(
            "damaged, truncated or not an .h5ad file", where=path, got=error
        ) from error
    try:
        counts, header = _open(path, file)
        digest = start_hash(counts.regions, counts.samples, counts.proportions)
        for index, (methylated, coverage) in enumerate(counts.rows()):
            RegionCounts(
                methylated[None], coverage[None], counts.regions, counts.samples[index : index + 1]
            )
            update_hash(digest, methylated, coverage)
    except _DAMAGE as error:
        file.close()
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("damaged, or a part is missing", where=path, got=reason) from error
    except DeconvError as error:
        file.close()
        raise InputError(str(error), where=path) from error
    if digest.hexdigest() != str(header.get("content_hash")):
        file.close()
        raise InputError(
            "the content is not what was written (damaged or edited)", where=path,
            got=f"hash {digest.hexdigest()[:12]}",
            expected=str(header.get("content_hash"))[:12],
        )  # fmt: skip
    return counts


def _open(path: Path, file: h5py.File) -> tuple[StoredCounts, dict[str, Any]]:
    layers = file.get("layers", {})
    if KEY not in file.get("uns", {}) or not set(LAYERS) <= set(layers):
        raise InputError(
            "no region counts in this .h5ad", got=f"layers {sorted(layers)}",
            expected=f"layers {' and '.join(LAYERS)}, and uns/{KEY}",
        )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of AnnData, about files other tools wrote
        header, samples, regions = (read_elem(file[k]) for k in (f"uns/{KEY}", "obs", "var"))
        proportions = read_elem(file["obsm"]).get("proportions")
    if header.get("format_version") != FORMAT_VERSION:
        raise InputError(
            "another format version", got=header.get("format_version"), expected=FORMAT_VERSION
        )
    shape = (len(samples), len(regions))
    for name in LAYERS:
        if not isinstance(layers[name], h5py.Dataset) or layers[name].shape != shape:
            raise InputError(
                f"layer {name} is not an array of samples x regions",
                got=getattr(layers[name], "shape", "a sparse matrix"), expected=shape,
            )  # fmt: skip
    counts = StoredCounts(
        path,
        layers,
        np.arange(len(samples)),
        RegionSet.from_columns(regions, str(header["build"]), header["feature"]),
        samples.apply(
            lambda column: column.astype(object) if column.dtype == "category" else column
        ),
        proportions,
    )
    return counts, header
