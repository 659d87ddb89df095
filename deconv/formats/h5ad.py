"""Counts of this library; see `deconv.store` for the layout."""

from dataclasses import replace
from pathlib import Path

from deconv.formats.builds import of_build
from deconv.formats.format import Format, Head, ReadOptions
from deconv.regions import RegionSet
from deconv.stored import StoredCounts, open_h5ad

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def _read(path: Path, regions: RegionSet | None, options: ReadOptions) -> StoredCounts:
    counts = open_h5ad(path)
    return replace(counts, regions=of_build(counts.regions, options.build, where=path))


def _looks_right(head: Head) -> bool:
    return head.data.startswith(HDF5_MAGIC)


FORMAT = Format(
    name="region counts",
    suffixes=(".h5ad",),
    content="HDF5 with layers methylated and coverage",
    looks_right=_looks_right,
    read=_read,
    features=("cpg", "u_fragment"),
    gzip=False,
)
