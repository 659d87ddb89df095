"""Speed of the readers on generated files, beside plain Python and bare decompression.

Each file is random and of one sample; calls and reads are on chromosome 1, in regions of 300
bp and 8 CpGs. The naive way to read a table is a loop over its lines that looks each place
up by bisection; it reads the first of the lines, and has to find the same counts in them.
That of a ``.beta`` is to load it and to add up region after region. Times are those of the
processor, as all of this runs in one thread.
"""

import gzip
import json
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pysam
from jaxtyping import Int

from deconv.files import write_text
from deconv.formats import FORMATS, read_counts
from deconv.genomes import GENOMES
from deconv.regions import RegionSet

N_REGIONS = 51_089
_BUILD, _CHROM = "hg19", "chr1"
_N_CPGS = 2_280_000  # of chromosome 1, about
_N_REPEATS = 3
_N_FEW = 60  # regions of chromosome 1 of a panel of 900
_NAIVE_SHARE = 20  # one line in so many is read in the naive way

Call = tuple[int, int, int]
"""Place, methylated and all observations."""


class Table(NamedTuple):
    """A format of text with a call or a read in each line.

    ``lines`` writes random ones; ``calls`` makes of a line's fields what the naive reader
    counts; ``by_index`` says whether its places are CpG indices, not positions.
    """

    suffix: str
    lines: Callable[[np.random.Generator, int], Iterator[str]]
    calls: Callable[[Sequence[str]], Iterator[Call]]
    by_index: bool = False


def _pat_lines(rng: np.random.Generator, n: int) -> Iterator[str]:
    patterns = ["".join(rng.choice(list("CT"), rng.integers(1, 15))) for _ in range(2000)]
    index = np.sort(rng.integers(1, min(2 * n, _N_CPGS), n)).tolist()
    for i, which in zip(index, rng.integers(0, len(patterns), n).tolist(), strict=True):
        yield f"{_CHROM}\t{i}\t{patterns[which]}\t1\n"


def _pat_calls(fields: Sequence[str]) -> Iterator[Call]:
    count = int(fields[3])
    for place, letter in enumerate(fields[2], int(fields[1])):
        yield place, count * (letter == "C"), count


def _call_lines(rng: np.random.Generator, n: int) -> Iterator[tuple[int, int, int]]:
    """Yield sorted positions, methylated and unmethylated calls."""
    size = GENOMES[_BUILD].sizes["1"]
    position = np.cumsum(rng.integers(2, 2 * min(size // n, 120) - 2, n))
    calls = rng.integers(0, 30, (2, n))
    return zip(position.tolist(), *calls.tolist(), strict=True)


def _bismark_lines(rng: np.random.Generator, n: int) -> Iterator[str]:
    for p, k, rest in _call_lines(rng, n):
        percent = 100 * k / max(k + rest, 1)
        yield f"{_CHROM}\t{p + 1}\t{p + 1}\t{percent}\t{k}\t{rest}\n"


def _report_lines(rng: np.random.Generator, n: int) -> Iterator[str]:
    for p, k, rest in _call_lines(rng, n):
        yield f"{_CHROM}\t{p + 1}\t+\t{k}\t{rest}\tCG\tCGA\n"


def _bedmethyl_lines(rng: np.random.Generator, n: int) -> Iterator[str]:
    for p, k, rest in _call_lines(rng, n):
        total, place = k + rest, f"{p}\t{p + 1}"
        percent = f"{100 * k / max(total, 1):.2f}"
        yield (
            f"{_CHROM}\t{place}\tm\t{total}\t+\t{place}\t255,0,0\t{total}\t{percent}\t{k}\t{rest}"
            "\t0\t0\t0\t0\t0\n"
        )


TABLES = {
    "pat": Table(".pat.gz", _pat_lines, _pat_calls, by_index=True),
    "Bismark coverage": Table(
        ".cov.gz", _bismark_lines,
        lambda f: iter([(int(f[1]) - 1, int(f[4]), int(f[4]) + int(f[5]))]),
    ),
    "cytosine report": Table(
        ".CpG_report.txt.gz", _report_lines,
        lambda f: iter([(int(f[1]) - 1, int(f[3]), int(f[3]) + int(f[4]))]),
    ),
    "bedMethyl": Table(
        ".bed.gz", _bedmethyl_lines, lambda f: iter([(int(f[1]), int(f[11]), int(f[9]))])
    ),
}  # fmt: skip


def benchmark_readers(
    path: Path, *, n_rows: int, n_regions: int = N_REGIONS
) -> list[dict[str, Any]]:
    """Measure ``.beta`` and each table that is an input format; write the results as JSON."""
    regions = _make_regions(n_regions)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = [_measure_beta(folder, regions)]
        for found in FORMATS:
            if found.name in TABLES:
                results.append(_measure(found.name, folder, regions, n_rows))
        results.append(_measure_fragments(folder, regions, n_rows))
        few = regions.take(np.linspace(0, n_regions - 1, _N_FEW, dtype=int))
        results.append(_measure_index(folder, few, n_rows))
    write_text(path, json.dumps({"results": results}, indent=1))
    return results


def _make_regions(n: int) -> RegionSet:
    """Return one region in each of as many equal parts of chromosome 1."""
    start = np.arange(n) * (GENOMES[_BUILD].sizes["1"] // n) + 1000
    first = np.arange(n) * (_N_CPGS // n) + 1
    chrom = np.full(n, _CHROM)
    return RegionSet(chrom, start, start + 300, _BUILD, "cpg", first, first + 8)


def _measure(name: str, folder: Path, regions: RegionSet, n_rows: int) -> dict[str, Any]:
    table = TABLES[name]
    path, head = folder / f"all{table.suffix}", folder / f"head{table.suffix}"
    lines = list(table.lines(np.random.default_rng(0), n_rows))
    _pack(path, lines)
    _pack(head, lines[: max(n_rows // _NAIVE_SHARE, 1)])
    begin = time.process_time()
    expected = _naive_counts(head, table, regions)
    naive = time.process_time() - begin
    found = read_counts(head, regions=regions)
    if not np.array_equal(expected, [found.methylated[0], found.coverage[0]]):
        raise AssertionError(f"{name}: the naive reader finds other counts")
    result = _result(name, path, n_rows, lambda: read_counts(path, regions=regions))
    result["naive_rows_per_s"] = max(n_rows // _NAIVE_SHARE, 1) / naive
    result["unpacking_rows_per_s"] = n_rows / _seconds(lambda: _unpack(path))
    return result


def _measure_beta(folder: Path, regions: RegionSet) -> dict[str, Any]:
    n_cpgs = GENOMES[_BUILD].n_cpgs
    assert n_cpgs is not None
    path = folder / "all.beta"
    pairs = np.random.default_rng(0).integers(0, 256, (n_cpgs, 2), dtype=np.uint8)
    np.sort(pairs, axis=1).tofile(path)
    # Regions as they are on all chromosomes.
    step = n_cpgs // len(regions)
    first = np.arange(len(regions)) * step + 1
    regions = replace(regions, start_cpg=first, end_cpg=first + 8)
    result = _result("beta", path, n_cpgs, lambda: read_counts(path, regions=regions))
    naive = _seconds(lambda: _naive_beta(path, regions), n_repeats=1)
    result["naive_rows_per_s"] = n_cpgs / naive
    return result


def _measure_fragments(folder: Path, regions: RegionSet, n_rows: int) -> dict[str, Any]:
    path, regions = folder / "all.pat.gz", replace(regions, feature="u_fragment")
    return _result("pat, fragments", path, n_rows, lambda: read_counts(path, regions=regions))


def _measure_index(folder: Path, few: RegionSet, n_rows: int) -> dict[str, Any]:
    path = folder / "all.pat.gz"
    pysam.tabix_index(str(path), force=True, csi=True, seq_col=0, start_col=1, end_col=1)
    result = _result(
        f"pat with an index, {len(few)} regions", path, n_rows,
        lambda: read_counts(path, regions=few),
    )  # fmt: skip
    path.with_name("all.pat.gz.csi").unlink()
    all_of_it = _seconds(lambda: read_counts(path, regions=few))
    result["naive_rows_per_s"] = n_rows / all_of_it  # to read all of the file
    return result


def _result(name: str, path: Path, n_rows: int, read: Callable[[], object]) -> dict[str, Any]:
    seconds = _seconds(read)
    return {
        "format": name, "rows": n_rows, "megabytes": path.stat().st_size / 1e6,
        "cpu_seconds": seconds, "rows_per_s": n_rows / seconds,
    }  # fmt: skip


def _seconds(work: Callable[[], object], n_repeats: int = _N_REPEATS) -> float:
    """Return the shortest of some times, after one call to warm up if there are several."""
    times = []
    for _ in range(n_repeats + (n_repeats > 1)):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times[-n_repeats:])


def _naive_counts(path: Path, table: Table, regions: RegionSet) -> list[list[int]]:
    start, end = regions.cpg_ranges if table.by_index else (regions.start, regions.end)
    starts, ends = start.tolist(), end.tolist()
    methylated, coverage = [0] * len(regions), [0] * len(regions)
    with gzip.open(path, "rt") as file:
        for line in file:
            for place, k, n in table.calls(line.rstrip("\n").split("\t")):
                region = bisect_right(starts, place) - 1
                if region >= 0 and place < ends[region]:
                    methylated[region] += k
                    coverage[region] += n
    return [methylated, coverage]


def _naive_beta(path: Path, regions: RegionSet) -> Int[np.ndarray, "R 2"]:
    pairs = np.fromfile(path, dtype=np.uint8).reshape(-1, 2)
    ranges = zip(*regions.cpg_ranges, strict=True)
    return np.array([pairs[a - 1 : b - 1].sum(axis=0, dtype=np.int64) for a, b in ranges])


def _unpack(path: Path) -> None:
    with gzip.open(path) as file:
        while file.read(1 << 21):
            pass


def _pack(path: Path, lines: Sequence[str]) -> None:
    is_bgzip = path.name.endswith(".pat.gz")
    with pysam.BGZFile(str(path), "w", None) if is_bgzip else gzip.open(path, "wb", 6) as file:
        for first in range(0, len(lines), 10_000):
            file.write("".join(lines[first : first + 10_000]).encode())
