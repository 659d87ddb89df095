"""wgbstools' ``.beta`` and ``.lbeta`` files: counts of every CpG of a genome, in its order.

Spec: no header; for each CpG, by its index, a pair of unsigned integers: methylated and all
observations. They are of 8 bits in ``.beta``, scaled down where there are more than 255, and
of 16 bits (little-endian) in ``.lbeta``. So the length tells the genome build.
Source: https://github.com/nloyfer/wgbs_tools/blob/master/docs/beta_format.md

Shape letters: C = CpGs of the genome, R = regions.
"""

import gzip
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int, UInt

from deconv.counts import MAX_COUNT, RegionCounts
from deconv.errors import InputError, MismatchError
from deconv.files import require_file
from deconv.formats.format import Format, Head, ReadOptions, regions_of, sample_name
from deconv.genomes import GENOMES
from deconv.regions import UNKNOWN_BUILD, RegionSet

_TYPES: dict[str, "np.dtype[Any]"] = {".beta": np.dtype("u1"), ".lbeta": np.dtype("<u2")}
_CPGS_AT_ONCE = 1 << 21


def read_beta(path: Path, regions: RegionSet) -> RegionCounts:
    """Add up the CpGs of each region; the sample is named after the file.

    Only what lies in regions is read, unless the file is gzip.

    Raises
    ------
    InputError
        If the file is no whole number of CpGs, or has more methylated than all
        observations.
    MismatchError
        If its number of CpGs is not that of the regions' genome build, or regions have no
        CpG indices.
    """
    suffix = ".lbeta" if path.name.lower().removesuffix(".gz").endswith(".lbeta") else ".beta"
    pairs = _open(path, _TYPES[suffix])
    start_cpg, end_cpg = regions.cpg_ranges
    _refuse_other_build(len(pairs), regions, path)
    totals = _sums(pairs, start_cpg - 1, end_cpg - 1, path)
    if totals.max() > MAX_COUNT:
        raise InputError("a count is too large", where=path, got=totals.max())
    methylated, coverage = totals.T.astype(np.int32)
    samples = pd.DataFrame(index=pd.Index([sample_name(path, suffix)], name="sample"))
    return RegionCounts(methylated[None], coverage[None], regions, samples)


def _open(path: Path, kind: "np.dtype[Any]") -> UInt[np.ndarray, "C 2"]:
    require_file(path)
    if path.suffix.lower() == ".gz":
        try:
            with gzip.open(path) as file:
                values = np.frombuffer(file.read(), dtype="u1")
        except (OSError, EOFError, zlib.error) as error:
            raise InputError("the file is damaged or cut off", where=path, got=error) from error
    else:
        values = np.memmap(path, dtype="u1", mode="r")
    if len(values) % (2 * kind.itemsize):
        raise InputError(
            "the file is cut off", where=path, got=f"{len(values)} bytes",
            expected=f"{2 * kind.itemsize} bytes a CpG",
        )  # fmt: skip
    return values.view(kind).reshape(-1, 2)


def _refuse_other_build(n_cpgs: int, regions: RegionSet, path: Path) -> None:
    expected = GENOMES[regions.build].n_cpgs if regions.build in GENOMES else None
    build = _build_with(n_cpgs)
    if build == regions.build:
        return
    if build != UNKNOWN_BUILD or expected is not None:
        raise MismatchError(
            "the file is of another genome build than the regions (CpGs are not lifted over)",
            where=path,
            got=f"{n_cpgs} CpGs, as {'no known build' if build == UNKNOWN_BUILD else build} has",
            expected=f"{expected or 'those'} of {regions.build}",
        )
    last = int(regions.cpg_ranges[1].max()) - 1
    if last > n_cpgs:
        raise MismatchError(
            "the regions have CpGs that the file has not", where=path,
            got=f"{n_cpgs} CpGs", expected=f"at least {last}",
        )  # fmt: skip


def _build_with(n_cpgs: int) -> str:
    builds = [name for name, genome in GENOMES.items() if genome.n_cpgs == n_cpgs]
    return builds[0] if builds else UNKNOWN_BUILD


def _sums(
    pairs: UInt[np.ndarray, "C 2"],
    start: Int[np.ndarray, " R"],
    end: Int[np.ndarray, " R"],
    path: Path,
) -> Int[np.ndarray, "R 2"]:
    """Add up ranges, none of them empty, picking about `_CPGS_AT_ONCE` at a time."""
    totals = np.empty((len(start), 2), dtype=np.int64)
    part = np.cumsum(end - start) // _CPGS_AT_ONCE
    for rows in np.split(np.arange(len(start)), np.flatnonzero(np.diff(part)) + 1):
        length = end[rows] - start[rows]
        first = np.cumsum(length) - length
        place = np.arange(length.sum()) + np.repeat(start[rows] - first, length)
        picked = pairs[place]
        bad = np.flatnonzero(picked[:, 0] > picked[:, 1])
        if bad.size:
            raise InputError(
                f"{bad.size} CpG(s) have more methylated than all observations",
                where=f"{path}, CpG {place[bad[0]] + 1}",
                got=f"{picked[bad[0], 0]} of {picked[bad[0], 1]}",
            )  # fmt: skip
        totals[rows] = np.add.reduceat(picked, first, axis=0, dtype=np.int64)
    return totals


def _looks_right(head: Head, kind: "np.dtype[Any]") -> bool:
    n_bytes = len(head.data) - len(head.data) % (2 * kind.itemsize)
    pairs = np.frombuffer(head.data[:n_bytes], dtype=kind).reshape(-1, 2)
    return bool(len(pairs)) and bool((pairs[:, 0] <= pairs[:, 1]).all())


def _build_of(path: Path, kind: "np.dtype[Any]") -> str:
    if path.suffix.lower() == ".gz":
        return UNKNOWN_BUILD  # its length is not known before all is unpacked
    return _build_with(path.stat().st_size // (2 * kind.itemsize))


def _read(path: Path, regions: RegionSet | None, options: ReadOptions) -> RegionCounts:
    return read_beta(path, regions_of(regions))


def _format(suffix: str, content: str) -> Format:
    kind = _TYPES[suffix]
    return Format(
        name=suffix.removeprefix("."),
        suffixes=(suffix,),
        content=content,
        looks_right=partial(_looks_right, kind=kind),
        read=_read,
        needs="cpgs",
        build_of=partial(_build_of, kind=kind),
    )


BETA = _format(".beta", "pairs of 8-bit integers, methylated and all observations of a CpG")
LBETA = _format(".lbeta", "pairs of 16-bit integers, methylated and all observations of a CpG")
