"""Genome builds: what tells them apart, and the two ways to name a chromosome.

Sizes are those of UCSC's ``chrom.sizes``, of the assembled chromosomes only. The number of
CpGs is that of all CG dinucleotides in them, the mitochondrial genome included, which is
how wgbstools numbers CpGs and so the length of its ``.beta`` files.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from deconv.errors import MismatchError


@dataclass(frozen=True)
class Genome:
    """A build; ``sizes`` in base pairs by chromosome name without ``chr``."""

    sizes: dict[str, int]
    n_cpgs: int | None = None


def _genome(n_autosomes: int, sizes: str, n_cpgs: int | None = None) -> Genome:
    names = [*map(str, range(1, n_autosomes + 1)), "X", "Y", "M"]
    return Genome(dict(zip(names, map(int, sizes.split()), strict=True)), n_cpgs)


GENOMES = {
    "hg19": _genome(
        22,
        """249250621 243199373 198022430 191154276 180915260 171115067 159138663 146364022
        141213431 135534747 135006516 133851895 115169878 107349540 102531392 90354753 81195210
        78077248 59128983 63025520 48129895 51304566 155270560 59373566 16571""",
        28_217_448,
    ),
    "hg38": _genome(
        22,
        """248956422 242193529 198295559 190214555 181538259 170805979 159345973 145138636
        138394717 133797422 135086622 133275309 114364328 107043718 101991189 90338345 83257441
        80373285 58617616 64444167 46709983 50818468 156040895 57227415 16569""",
        29_401_795,
    ),
    "mm10": _genome(
        19,
        """195471971 182113224 160039680 156508116 151834684 149736546 145441459 129401213
        124595110 130694993 122082543 120129022 120421639 124902244 104043685 98207768 94987271
        90702639 61431566 171031299 91744698 16299""",
    ),
}
"""Builds whose coordinates can be checked; others are taken at their name."""


_ALIASES = {"grch37": "hg19", "grch38": "hg38", "grcm38": "mm10"}


def known_build(name: str) -> str:
    """Return a build's name as it is in `GENOMES`; others as they are written.

    Letter case does not matter, nor patches: GRCh38.p14 has the coordinates of hg38.
    """
    plain = re.sub(r"\.p\d+$", "", name.strip().lower())
    plain = _ALIASES.get(plain, plain)
    return plain if plain in (*GENOMES, "unknown") else name


def plain_chromosome(name: str) -> str:
    """Return a chromosome's name without ``chr``, and M for MT: what `1` and `chr1` share."""
    plain = name.removeprefix("chr")
    return "M" if plain == "MT" else plain


def plain_chromosomes(names: np.ndarray) -> np.ndarray:
    """Return `plain_chromosome` of each."""
    different, which = np.unique(names, return_inverse=True)
    return np.array([plain_chromosome(str(n)) for n in different])[which]


def naming_note(found: Iterable[str], wanted: Iterable[str]) -> tuple[str, ...]:
    """Return one sentence if data and regions name the same chromosome in two ways."""
    by_plain = {plain_chromosome(name): name for name in wanted}
    for name in found:
        other = by_plain.get(plain_chromosome(name), name)
        if other != name:
            return (f"chromosome {name} of the file is taken as {other} of the regions",)
    return ()


def fitting_builds(chrom: np.ndarray, end: Int[np.ndarray, " R"]) -> list[str]:
    """Return the builds in which all these intervals lie inside a known chromosome."""
    return [build for build in GENOMES if _first_outside(chrom, end, build, strict=True) is None]


def refuse_other_build(
    chrom: np.ndarray, end: Int[np.ndarray, " R"], build: str, *, where: object
) -> None:
    """Refuse coordinates that lie outside the chromosomes of the build they are said to be of.

    Chromosomes, and builds, that are not in `GENOMES` are not checked.

    Raises
    ------
    MismatchError
        With the first such interval, and the builds that would fit.
    """
    if build not in GENOMES:
        return
    outside = _first_outside(chrom, end, build, strict=False)
    if outside is None:
        return
    size = GENOMES[build].sizes[plain_chromosome(str(chrom[outside]))]
    fitting = [b for b in fitting_builds(chrom, end) if b != build]
    hint = f"; it would fit {' or '.join(fitting)}, and is not lifted over" if fitting else ""
    raise MismatchError(
        f"the coordinates are of another genome build than {build}", where=where,
        got=f"{chrom[outside]} position {end[outside]}",
        expected=f"at most {size}{hint}",
    )  # fmt: skip


def _first_outside(
    chrom: np.ndarray, end: Int[np.ndarray, " R"], build: str, *, strict: bool
) -> int | None:
    """Return the first interval beyond its chromosome or, if strict, on an unknown one."""
    sizes = GENOMES[build].sizes
    names, which = np.unique(chrom, return_inverse=True)
    unknown = 0 if strict else np.iinfo(np.int64).max
    limit = np.array([sizes.get(plain_chromosome(str(n)), unknown) for n in names])[which]
    outside = np.flatnonzero(end > limit)
    return int(outside[0]) if outside.size else None
