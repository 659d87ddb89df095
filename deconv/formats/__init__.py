"""Readers of methylation files. One module per format, each opening with its spec."""

from pathlib import Path

from deconv.counts import RegionCounts, Samples
from deconv.errors import InputError
from deconv.formats.counts_tsv import read_counts_tsv
from deconv.regions import UNKNOWN_BUILD
from deconv.stored import open_h5ad

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def read_counts(path: Path, *, build: str = UNKNOWN_BUILD) -> RegionCounts:
    """Read region counts into memory; see `open_counts`."""
    return open_counts(path, build=build).load()


def open_counts(path: Path, *, build: str = UNKNOWN_BUILD) -> Samples:
    """Open region counts of any known format; ``.h5ad`` is read sample by sample later.

    Parameters
    ----------
    path
        ``.h5ad`` of this library, or a counts table ``.tsv`` or ``.txt``, plain or ``.gz``.
    build
        Genome build, for formats that do not state it.

    Raises
    ------
    InputError
        If the suffix is not known, or the content is not what the suffix says.
    """
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes[-1:] == [".h5ad"]:
        counts = open_h5ad(path)
        if build not in (UNKNOWN_BUILD, counts.regions.build):
            raise InputError(
                "the file states another genome build",
                where=path, got=counts.regions.build, expected=build,
            )  # fmt: skip
        return counts
    if (suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:]) in ([".tsv"], [".txt"]):
        return read_counts_tsv(path, build=build)
    raise InputError(
        "unknown suffix", where=path, got=path.suffix or "none",
        expected=".h5ad, .tsv, .tsv.gz, .txt or .txt.gz",
    )  # fmt: skip
