"""Which genome build the regions of a file are of: it says so, a person does, or they fit one."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from deconv.errors import MismatchError
from deconv.genomes import GENOMES, fitting_builds, known_build, refuse_other_build
from deconv.regions import UNKNOWN_BUILD, RegionSet

OTHER = "the file states another genome build"


def of_build(regions: RegionSet, stated: str, *, where: object, other: str = OTHER) -> RegionSet:
    """Return the regions of a file, of the build that a person stated if it does not say.

    Parameters
    ----------
    stated
        "unknown" if nobody did.
    other
        What to say of a file that states another.

    Raises
    ------
    MismatchError
        If the file states another build, or its coordinates or CpG indices do not exist in
        the stated one.
    """
    stated = known_build(stated)
    if stated in (UNKNOWN_BUILD, known_build(regions.build)):
        return regions
    if regions.build != UNKNOWN_BUILD:
        raise MismatchError(other, where=where, got=regions.build, expected=stated)
    refuse_other_build(regions.chrom, regions.end, stated, where=where)
    there = replace(regions, build=stated)
    refuse_other_indices(there, where=where)
    return there


def build_or_fitting(
    stated: str, chrom: np.ndarray, end: Int[np.ndarray, " R"]
) -> tuple[str, tuple[str, ...]]:
    """Return the stated build or, if nobody stated one, the only one that fits, with a note."""
    stated = known_build(stated)
    if stated != UNKNOWN_BUILD:
        return stated, ()
    fitting = fitting_builds(chrom, end)
    if len(fitting) != 1:
        return UNKNOWN_BUILD, ()
    note = f"the genome build is taken to be {fitting[0]}: its coordinates fit no other"
    return fitting[0], (note,)


def refuse_other_indices(regions: RegionSet, *, where: object) -> None:
    """Refuse CpG indices that the build does not have, or that the regions have no room for.

    Raises
    ------
    MismatchError
        With the first such region.
    """
    if regions.start_cpg is None or regions.end_cpg is None:
        return
    crowded = np.flatnonzero(~has_room(regions.columns()))
    if crowded.size:
        first = crowded[0]
        raise MismatchError(
            f"{crowded.size} region(s) have more CpGs than room for them", where=where,
            got=f"CpGs {regions.start_cpg[first]} to {regions.end_cpg[first]} in"
            f" {regions.names[first]}",
            expected="startCpG and endCpG of these coordinates",
        )  # fmt: skip
    genome = GENOMES.get(regions.build)
    last = int(regions.end_cpg.max()) - 1
    if genome is not None and genome.n_cpgs is not None and last > genome.n_cpgs:
        raise MismatchError(
            f"the CpG indices are of another genome build than {regions.build}",
            where=where, got=f"CpG {last}", expected=f"at most {genome.n_cpgs}",
        )  # fmt: skip


def has_room(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether regions are long enough for their CpGs, which are two base pairs each."""
    n_cpgs = columns["end_cpg"] - columns["start_cpg"]
    return np.asarray(2 * n_cpgs <= columns["end"] - columns["start"] + 2)
