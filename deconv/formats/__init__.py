"""Readers of methylation files. One module per format, each opening with its spec."""

from pathlib import Path

from deconv.counts import RegionCounts, Samples
from deconv.errors import DeconvError, InputError, MismatchError
from deconv.formats.builds import of_build
from deconv.formats.format import Format, ReadOptions, make_options
from deconv.formats.registry import FORMATS, find_format
from deconv.regions import UNKNOWN_BUILD, RegionSet

__all__ = [
    "FORMATS", "Format", "ReadOptions", "find_format", "make_options", "open_counts",
    "read_counts",
]  # fmt: skip

_DEFAULT = ReadOptions()


def read_counts(
    path: Path, *, regions: RegionSet | None = None, options: ReadOptions = _DEFAULT
) -> RegionCounts:
    """Read counts into memory; see `open_counts`."""
    return open_counts(path, regions=regions, options=options).load()


def open_counts(
    path: Path, *, regions: RegionSet | None = None, options: ReadOptions = _DEFAULT
) -> Samples:
    """Open the samples of a file of any known format; some are read one by one later.

    Parameters
    ----------
    path
        The file; suffix and content must speak for the same format.
    regions
        Where to count, in files that hold single CpGs or reads; if their build is unknown, it
        is the one that is stated of the file. Those that hold regions
        of their own come at these, in their own order: match them by name.
    options
        What the file does not say itself.

    Raises
    ------
    InputError
        If no format fits, the file breaks its spec, or it needs regions.
    MismatchError
        If genome build or feature of file and regions differ, or no region is covered.
    """
    found = find_format(path)
    if found.needs == "nothing":
        return found.read(path, None, options)
    if regions is not None and regions.build == UNKNOWN_BUILD:
        regions = of_build(regions, options.build, where="the regions")
    _check_regions(found, path, regions, options)
    try:
        counts = found.read(path, regions, options)
    except DeconvError as error:
        if str(error).startswith(str(path)):
            raise
        raise type(error)(str(error), where=path) from error
    if not any(coverage.any() for _, coverage in counts.rows()):
        raise MismatchError(
            "no region is covered", where=path, got=f"nothing in {len(counts.regions)} regions",
            expected=f"data of genome build {counts.regions.build} in regions such as"
            f" {counts.regions.names[0]}",
        )  # fmt: skip
    return counts


def _check_regions(
    found: Format, path: Path, regions: RegionSet | None, options: ReadOptions
) -> None:
    if regions is None:
        raise InputError(
            f"{found.name} holds no regions", where=path, expected="regions to count in"
        )
    if regions.feature not in found.features:
        raise MismatchError(
            "the regions count what the file cannot tell", where=path,
            got=" or ".join(found.features), expected=regions.feature,
        )  # fmt: skip
    if regions.build == UNKNOWN_BUILD:
        raise InputError(
            "the genome build of the regions is not known", where=path,
            expected="a stated build, for example --build hg38",
        )  # fmt: skip
    if options.build not in (UNKNOWN_BUILD, regions.build):
        raise MismatchError(
            "the file is of another genome build than the regions (coordinates are not"
            " lifted over)", where=path, got=options.build, expected=regions.build,
        )  # fmt: skip
    if found.needs == "cpgs" and regions.start_cpg is None:
        raise MismatchError(
            f"{found.name} numbers the CpGs of the genome, and the regions have no CpG indices",
            where=path, expected="a region file with columns startCpG and endCpG",
        )  # fmt: skip
