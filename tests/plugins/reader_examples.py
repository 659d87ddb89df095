"""A small written file of each input format, with the counts that it stands for."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from deconv.counts import RegionCounts
from deconv.formats import ReadOptions
from deconv.regions import RegionSet
from deconv.store import write_h5ad

REGIONS = RegionSet(
    np.array(["chr1", "chr1", "chr2"]),
    np.array([100, 300, 50]),
    np.array([200, 400, 90]),
    "toy",
    start_cpg=np.array([2, 6, 9]),
    end_cpg=np.array([5, 8, 10]),
)
"""Where the examples of genome-wide formats are counted."""


@dataclass(frozen=True)
class Example:
    """A file of a format.

    `content` is its plain bytes, or a function that writes it; `pack` makes ``.gz`` of it.
    `methylated` and `coverage` are what a reader returns, `[samples][regions]`.
    """

    format: str
    file: str
    content: bytes | Callable[[Path], None]
    samples: list[str]
    methylated: list[list[int]]
    coverage: list[list[int]]
    regions: RegionSet | None = None
    options: ReadOptions = field(default_factory=ReadOptions)
    pack: Callable[[bytes], bytes] = gzip.compress

    def write(self, folder: Path, name: str | None = None, *, packed: bool = False) -> Path:
        path = folder / (name or self.file + ".gz" * packed)
        if callable(self.content):
            self.content(path)
        else:
            path.write_bytes(self.pack(self.content) if packed else self.content)
        return path


def _write_h5ad(path: Path) -> None:
    samples = pd.DataFrame(index=pd.Index(["a", "b"], name="sample"))
    counts = RegionCounts(
        np.array([[1, 0, 3], [0, 2, 2]]), np.array([[4, 0, 3], [1, 2, 9]]), REGIONS, samples
    )
    write_h5ad(counts, path)


EXAMPLES = [
    Example(
        "region counts", "counts.h5ad", _write_h5ad, ["a", "b"],
        [[1, 0, 3], [0, 2, 2]], [[4, 0, 3], [1, 2, 9]],
    ),
    Example(
        "counts table",
        "counts.tsv",
        b"chrom\tstart\tend\ta_METH\ta_DEPTH\tb_METH\tb_DEPTH\n"
        b"chr1\t100\t200\t1\t4\t0\t1\nchr1\t300\t400\t0\t0\t2\t2\n",
        ["a", "b"],
        [[1, 0], [0, 2]],
        [[4, 0], [1, 2]],
    ),
]  # fmt: skip
