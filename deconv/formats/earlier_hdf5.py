"""HDF5 files of the earlier attempt at this platform: pure samples, and mixtures of them.

Spec: pure samples have ``methylation`` [N, R, P], uint8: 0 unmethylated, 1 methylated, 2
missing at each position of each region; ``tissue_labels`` [N], positions in
``tissue_names`` [T]; ``sample_names`` [N] and ``aug_versions`` [N], the number of the
augmented copy, 0 for the original. Mixtures have ``mixed_methylation`` [N, R], float32: mean
methylation, 0 to 1 or NaN; ``true_proportions`` [N, T]; the attribute ``tissue_names``. The
small tables lie at the root or in a group of any name.

The regions are not named: they are those of the panel, in its order, and only their number
can be checked. A donor is a sample name without ``_aug`` and a number, so that augmented
copies share their donor. Mixtures have no coverage: a stated one makes counts of means. A
region without coverage was stored there as a mean of 0, which cannot be undone.

Shape letters: N = samples, R = regions, P = positions, T = tissues.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Int32

from deconv.counts import RegionCounts, Row
from deconv.errors import DeconvError, InputError, MismatchError
from deconv.files import require_file
from deconv.formats.earlier_tables import mixture_tables, pure_tables
from deconv.formats.format import PSEUDO_COVERAGE, Format, Head, ReadOptions
from deconv.formats.h5ad import HDF5_MAGIC
from deconv.regions import RegionSet
from deconv.stored import StoredCounts

_PURE, _MIXED = "methylation", "mixed_methylation"
_BLOCK_BYTES = 1 << 25


@dataclass(frozen=True, eq=False)
class EarlierCounts(StoredCounts):
    """Samples in an open file, counted as they are asked for; ``layers`` is its root.

    ``pseudo_coverage`` is what a mean of mixtures stands for, 0 in files of pure samples.
    """

    pseudo_coverage: int = 0

    def rows(self) -> Iterator[Row]:
        """Yield the counts of each sample; of the file, a few chunks are in memory.

        Raises
        ------
        InputError
            If the file is damaged or a value is none of the spec's.
        """
        data = self.layers[_MIXED if self.pseudo_coverage else _PURE]
        step = data.chunks[0] if data.chunks else 1
        for chunk, positions in groupby(self.positions, lambda position: position // step):
            some = slice(chunk * step, (chunk + 1) * step)
            try:
                held = self._of_means(data[some]) if self.pseudo_coverage else self._of(data, some)
            except OSError as error:
                raise InputError("damaged", where=self.path, got=error) from error
            for position in positions:
                yield held[0, position - some.start], held[1, position - some.start]

    def load(self) -> RegionCounts:
        """Return all samples in memory."""
        counts = np.empty((2, len(self), len(self.regions)), np.int32)
        for row, pair in enumerate(self.rows()):
            counts[:, row] = pair
        return RegionCounts(
            counts[0], counts[1], self.regions, self.samples, self.proportions, self.notes
        )

    def _of(self, data: h5py.Dataset, some: slice) -> Int32[np.ndarray, "2 n R"]:
        """Count patterns, a block of regions at a time."""
        n_samples, n_regions = len(range(*some.indices(data.shape[0]))), data.shape[1]
        counts = np.empty((2, n_samples, n_regions), np.int32)
        width = data.chunks[1] if data.chunks else 1
        width *= max(_BLOCK_BYTES // (n_samples * data.shape[2] * width), 1)
        for first in range(0, n_regions, width):
            regions = slice(first, min(first + width, n_regions))
            block = data[some, regions]
            if block.max() > 2:
                raise InputError(
                    "a pattern has another value", where=f"{self.path}, {_PURE}",
                    got=block.max(), expected="0, 1 or 2",
                )  # fmt: skip
            counts[0, :, regions] = np.count_nonzero(block == 1, axis=2)
            counts[1, :, regions] = np.count_nonzero(block < 2, axis=2)
        return counts

    def _of_means(self, mean: np.ndarray) -> Int32[np.ndarray, "2 n R"]:
        observed = ~np.isnan(mean)
        if not ((mean >= 0) & (mean <= 1))[observed].all():
            raise InputError(
                "a mean is no fraction", where=f"{self.path}, {_MIXED}", expected="0 to 1, or NaN"
            )
        methylated = np.rint(np.where(observed, mean, 0).astype(np.float64) * self.pseudo_coverage)
        return np.stack([methylated, observed * self.pseudo_coverage]).astype(np.int32)


def open_earlier(
    path: Path, regions: RegionSet, *, pseudo_coverage: int | None = None
) -> EarlierCounts:
    """Open the samples of a file; their counts are read later, one by one.

    Parameters
    ----------
    regions
        The panel, in the order of the file.
    pseudo_coverage
        Observations that a mean of mixtures stands for.

    Raises
    ------
    InputError
        If the file is damaged or breaks the spec above.
    MismatchError
        If the number of regions differs.
    """
    require_file(path)
    try:
        file = h5py.File(path)
    except OSError as error:
        raise InputError("damaged, truncated or no HDF5", where=path, got=error) from error
    try:
        return _open(path, file, regions, pseudo_coverage or PSEUDO_COVERAGE)
    except DeconvError:
        file.close()
        raise
    except (OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        file.close()
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("damaged, or a part is missing", where=path, got=reason) from error


def _open(path: Path, file: h5py.File, regions: RegionSet, coverage: int) -> EarlierCounts:
    is_mixed = _MIXED in file
    name, n_dimensions = (_MIXED, 2) if is_mixed else (_PURE, 3)
    data = file.get(name)
    kinds = "f" if is_mixed else "u"
    if (
        not isinstance(data, h5py.Dataset)
        or data.ndim != n_dimensions
        or data.dtype.kind not in kinds
        or 0 in data.shape
    ):
        raise InputError(
            f"no {_PURE} or {_MIXED} as the earlier attempt wrote them", where=path,
            got=f"{name}: {data}", expected="uint8 [samples, regions, positions], or float32"
            " [samples, regions]",
        )  # fmt: skip
    if data.shape[1] != len(regions):
        raise MismatchError(
            "another number of regions than the panel", where=path,
            got=data.shape[1], expected=len(regions),
        )  # fmt: skip
    notes = ["the file does not name its regions: they are taken in the order of the panel"]
    if is_mixed:
        notes.append(f"means are taken for {coverage} observations each, a mean of 0 also where"
                     " nothing was observed")  # fmt: skip
    samples, proportions = (mixture_tables if is_mixed else pure_tables)(path, file, len(data))
    return EarlierCounts(
        path, file, np.arange(len(data)), regions, samples, proportions, tuple(notes),
        coverage if is_mixed else 0,
    )  # fmt: skip


def _looks_right(head: Head) -> bool:
    return head.data.startswith(HDF5_MAGIC)


def _read(path: Path, regions: RegionSet | None, options: ReadOptions) -> EarlierCounts:
    assert regions is not None  # the format needs them
    return open_earlier(path, regions, pseudo_coverage=options.pseudo_coverage)


FORMAT = Format(
    name="HDF5 of the earlier attempt",
    suffixes=(".h5", ".hdf5"),
    content=f"HDF5 with {_PURE} or {_MIXED}",
    looks_right=_looks_right,
    read=_read,
    needs="panel",
    gzip=False,
)
