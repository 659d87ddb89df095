r"""The UXM atlas: fractions of fragments of one kind per marker region and cell type.

Spec: tab-separated text with a header, plain or gzip. Columns ``chr``, ``start``, ``end``
(0-based half-open), ``startCpG``, ``endCpG`` (wgbstools indices, 1-based half-open),
``target`` (the cell type that the region marks), ``name``, ``direction`` (which fragments
are counted: ``U``, unmethylated, or ``M``), then a column per cell type: the fraction of
its fragments that are of that kind, 0 to 1, or ``NA`` where it has no fragments there.
Source: https://github.com/nloyfer/UXM_deconv, Loyfer et al. (2023),
https://doi.org/10.1038/s41586-022-05580-6

Shape letters: T = tissues, R = regions.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from deconv.atlas import Atlas, atlas_from_means
from deconv.errors import InputError, from_file
from deconv.files import require_file
from deconv.formats.columns import fractions
from deconv.formats.tables import integers, read_text
from deconv.regions import RegionSet

_COLUMNS = ["chr", "start", "end", "startCpG", "endCpG", "target", "name", "direction"]


@dataclass(frozen=True, eq=False)
class UxmAtlas:
    """An atlas with what its regions mark.

    Attributes
    ----------
    atlas
        Profiles for feature ``u_fragment``; its regions have the CpG indices and directions
        with which `deconv.formats.pat.read_pat` counts the same in a sample.
    target
        The cell type that each region marks.
    fraction
        The fractions as the file gives them, NaN where it gives none.
    """

    atlas: Atlas
    target: np.ndarray
    fraction: Float[np.ndarray, "T R"]


def read_uxm_atlas(path: Path, *, build: str) -> UxmAtlas:
    """Read an atlas of the genome build ``build``, which the file does not state.

    A fraction that the file does not give becomes the mean of the cell types that it does
    give at that region, so that the region says nothing for or against that type.
    Dispersion and coverage are assumed, see `deconv.atlas.atlas_from_means`.

    Raises
    ------
    InputError
        With file, line and column, if the table breaks the spec above.
    """
    require_file(path)
    table = read_text(path)
    tissues = [str(c) for c in table.columns[len(_COLUMNS) :]]
    if list(table.columns[: len(_COLUMNS)]) != _COLUMNS or len(tissues) < 2:
        raise InputError(
            "wrong columns", where=f"{path}, header", got=", ".join(table.columns[:10]),
            expected=f"{', '.join(_COLUMNS)}, then two or more cell types",
        )  # fmt: skip
    if table.empty:
        raise InputError("the table has no rows", where=path)
    for name in ("chr", "target", "direction"):
        missing = np.flatnonzero(table[name].isna())
        if missing.size:
            raise InputError(f"no {name}", where=f"{path}, line {missing[0] + 2}")
    fraction = fractions(table[tissues], path).T
    start, end, start_cpg, end_cpg = (integers(table[c], path) for c in _COLUMNS[1:5])
    with from_file(path):
        regions = RegionSet(
            table["chr"].to_numpy(dtype=str), start, end, build, "u_fragment",
            start_cpg, end_cpg, table["direction"].to_numpy(dtype=str),
        )  # fmt: skip
    return UxmAtlas(
        atlas=atlas_from_means(tissues, regions, fraction),
        target=table["target"].to_numpy(dtype=str),
        fraction=fraction,
    )
