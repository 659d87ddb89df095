"""Atlases as tables of mean methylation, as nanomix uses them.

Spec: tab-separated text with a header, plain or gzip. Columns ``chr`` (or ``chrom``),
``start``, ``end`` (0-based half-open), then a column per cell type: mean methylation, 0 to
1, or ``NA`` where it is not known. The file states neither donors nor coverage.
Source: https://github.com/jsimpsonlab/nanomix (``39Bisulfite.tsv``)
"""

from pathlib import Path

import numpy as np

from deconv.atlas import Atlas, atlas_from_means
from deconv.errors import InputError
from deconv.files import require_file
from deconv.formats.columns import fractions
from deconv.formats.tables import integers, read_text
from deconv.genomes import refuse_other_build
from deconv.regions import RegionSet

_HEADERS = (["chr", "start", "end"], ["chrom", "start", "end"])


def read_means(path: Path, *, build: str) -> Atlas:
    """Read an atlas of the genome build ``build``, which the file does not state.

    A mean that the file does not give becomes that of the other cell types, and dispersion
    and coverage are assumed; see `deconv.atlas.atlas_from_means`.

    Raises
    ------
    InputError
        With file, line and column, if the table breaks the spec above.
    MismatchError
        If the coordinates do not exist in the build.
    """
    require_file(path)
    table = read_text(path)
    names = [str(c) for c in table.columns]
    tissues = names[3:]
    if [c.lower() for c in names[:3]] not in _HEADERS or len(tissues) < 2:
        raise InputError(
            "wrong columns", where=f"{path}, header", got=", ".join(names[:6]),
            expected="chr, start, end, then two or more cell types",
        )  # fmt: skip
    if table.empty:
        raise InputError("the table has no rows", where=path)
    chrom = table[names[0]]
    if chrom.isna().any():
        raise InputError("no chromosome", where=f"{path}, line {int(np.argmax(chrom.isna())) + 2}")
    mean = fractions(table[tissues], path).T
    start, end = (integers(table[name], path) for name in names[1:3])
    try:
        regions = RegionSet(chrom.to_numpy(dtype=str), start, end, build)
        refuse_other_build(regions.chrom, regions.end, build, where=path)
        return atlas_from_means(tissues, regions, mean)
    except InputError as error:
        raise InputError(str(error), where=path) from error
