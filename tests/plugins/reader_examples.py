"""A small written file of each input format, with the counts that it stands for."""

import gzip
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from deconv.counts import RegionCounts
from deconv.formats import ReadOptions
from deconv.regions import RegionSet
from deconv.store import write_h5ad


def bgzip(text, block_bytes=60_000):
    """Compress as bgzip does: gzip members that state their size, then an empty one."""
    blocks = [text[i : i + block_bytes] for i in range(0, len(text), block_bytes)]
    return b"".join(_block(block) for block in [*blocks, b""])


def _block(content):
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    head = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff\x06\x00BC\x02\x00"
    size = struct.pack("<H", len(head) + 2 + len(packed) + 8 - 1)
    return head + size + packed + struct.pack("<II", zlib.crc32(content), len(content))


REGIONS = RegionSet(
    np.array(["chr1", "chr1", "chr2"]),
    np.array([100, 300, 50]),
    np.array([200, 400, 90]),
    "toy",
    start_cpg=np.array([2, 6, 9]),
    end_cpg=np.array([5, 8, 10]),
)
"""Where the examples of genome-wide formats are counted."""

MARKERS = replace(REGIONS, feature="u_fragment", direction=np.array(["M", "U", "U"]))
"""The same places, where fragments are counted."""


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


# Ten CpGs; 2-4, 6-7 and 9 are those of the regions.
_CPGS = np.array(
    [(9, 9), (1, 3), (0, 0), (2, 2), (7, 8), (0, 5), (255, 255), (3, 9), (0, 0), (4, 4)]
)


def _write_patterns(path: Path) -> None:
    patterns = np.full((2, 3, 5), 2, dtype=np.uint8)
    patterns[0, 0, :3], patterns[0, 2, 4], patterns[1, 1, :2] = [1, 1, 0], 0, 1
    with h5py.File(path, "w") as file:
        file["methylation"] = patterns
        file["tissue_labels"], file["tables/aug_versions"] = [0, 0], [0, 1]
        file["tables/tissue_names"], file["tables/sample_names"] = ["Liver"], ["a", "a"]


def _write_mixtures(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["mixed_methylation"] = np.array([[0.25, np.nan, 1], [0, 0.5, 0.1]], np.float32)
        file["true_proportions"] = np.array([[0.25, 0.75], [1, 0]])
        file.attrs["tissue_names"] = ["Liver", "Lung"]


def _bedmethyl(start: int, code: str, strand: str, *numbers: int | str) -> str:
    last = f"{numbers[0]}\t{' '.join(map(str, numbers[1:]))}"
    place = f"{start}\t{start + 1}"
    return f"chr1\t{place}\t{code}\t{numbers[0]}\t{strand}\t{place}\t255,0,0\t{last}\n"


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
    Example(
        "pat",
        "sample.pat",
        # CpGs 2-4, 6-7 and 9 are the regions'.
        b"chr1\t1\tTCC\t3\nchr1\t3\tT.CCH\t1\nchr2\t8\tTTC\t2\n",
        ["sample"],
        [[6, 2, 0]],
        [[7, 2, 2]],
        REGIONS,
        pack=bgzip,
    ),
    Example(
        "pat",
        "fragments.pat",
        # Of the first region: 3 M, 4 and 6 X, 5 U, and one too short; of the second: 1 M, 2 U.
        b"chr1\t1\tTCC\t3\nchr1\t2\tTTC\t4\nchr1\t2\tTCC\t6\nchr1\t2\tTTT\t5\n"
        b"chr1\t3\tT.CCH\t1\nchr1\t6\tTT\t2\nchr2\t8\tTTC\t2\n",
        ["fragments"],
        [[3, 2, 0]],
        [[18, 3, 0]],
        MARKERS,
        ReadOptions(min_cpgs=2),
        bgzip,
    ),
    Example(
        "beta", "sample.beta", _CPGS.astype("u1").tobytes(), ["sample"],
        [[3, 255, 0]], [[5, 260, 0]], REGIONS,
    ),
    Example(
        "lbeta", "sample.lbeta", (251 * _CPGS).astype("<u2").tobytes(), ["sample"],
        [[3 * 251, 255 * 251, 0]], [[5 * 251, 260 * 251, 0]], REGIONS,
    ),
    Example(
        "beta_to_table",
        "table.tsv",
        b"chr\tstart\tend\tstartCpG\tendCpG\ta\tb\n"
        b"chr1\t100\t200\t2\t5\t0.25\tNA\nchr1\t300\t400\t6\t8\t1\t0.5\n",
        ["a", "b"],
        [[5, 20], [0, 10]],
        [[20, 20], [0, 20]],
        options=ReadOptions(pseudo_coverage=20),
    ),
    Example(
        "Bismark coverage",
        "liver.bismark.cov",
        b"chr1\t101\t101\t75\t3\t1\nchr1\t200\t201\t50\t1\t1\nchr1\t202\t202\t0\t0\t5\n"
        b"chr2\t51\t51\t100.0\t2\t0\n",
        ["liver"],
        [[4, 0, 2]],
        [[6, 0, 2]],
        REGIONS,
    ),
    Example(
        "cytosine report",
        "liver.CX_report.txt",
        b"chr1\t101\t+\t3\t1\tCG\tCGT\nchr1\t102\t-\t2\t0\tCG\tCGA\n"
        b"chr1\t110\t+\t1\t9\tCHH\tCAT\nchr1\t301\t-\t7\t0\tCG\tCGA\n"
        b"chr1\t302\t-\t0\t4\tCG\tCGA\nchr2\t51\t+\t0\t0\tCG\tCGN\n",
        ["liver"],
        [[5, 0, 0]],
        [[6, 4, 0]],
        REGIONS,
    ),
    Example(
        "bedMethyl",
        "liver.bed",
        (
            _bedmethyl(100, "h", "+", 8, "12.50", 1, 4, 3, 0, 0, 0, 0)
            + _bedmethyl(100, "m", "+", 8, "37.50", 3, 4, 1, 0, 0, 0, 0)
            + _bedmethyl(300, "m", "-", 5, "100.00", 5, 0, 0, 0, 0, 0, 0)  # its C is at 299
            + _bedmethyl(301, "m", "-", 5, "80.00", 4, 1, 0, 0, 0, 0, 0)
        ).encode(),
        ["liver"],
        [[4, 4, 0]],
        [[8, 5, 0]],
        REGIONS,
    ),
    Example(
        "bedMethyl",
        "lung.bedMethyl",
        b"chr1\t100\t101\t.\t4\t+\t100\t101\t0,255,0\t4\t75\n"
        b"chr2\t89\t90\t.\t7\t-\t89\t90\t0,255,0\t7\t57\n",
        ["lung"],
        [[3, 0, 4]],
        [[4, 0, 7]],
        REGIONS,
    ),
    Example(
        "array beta values",
        "array.csv",
        b"CpGs,a,b\ncg00000029,0.25,1\nrs10,0.5,0.5\ncg00000108_TC11,NA,0.5\ncg00000108_BC21,,0\n",
        ["a", "b"],
        [[2, 0], [8, 2]],
        [[8, 0], [8, 8]],
        options=ReadOptions(pseudo_coverage=8),
    ),
    Example(
        "HDF5 of the earlier attempt",
        "pure.h5",
        _write_patterns,
        ["a", "a-aug1"],
        [[2, 0, 0], [0, 2, 0]],
        [[3, 0, 1], [0, 2, 0]],
        REGIONS,
    ),
    Example(
        "HDF5 of the earlier attempt",
        "mixtures.hdf5",
        _write_mixtures,
        ["mixture-0", "mixture-1"],
        [[5, 0, 20], [0, 10, 2]],
        [[20, 0, 20], [20, 20, 20]],
        REGIONS,
        ReadOptions(pseudo_coverage=20),
    ),
]  # fmt: skip
