"""Bismark's coverage files and reports: added up as a plain loop does, refused with the line."""

import gzip

import numpy as np
import pytest
from naive_readers import bismark_cov, counts_in, cytosine_report

from deconv.errors import InputError, MismatchError
from deconv.formats import read_counts, text_blocks
from deconv.formats.bismark import read_bismark_cov
from deconv.formats.cytosine_report import read_cytosine_report
from deconv.regions import RegionSet

COV = (
    "chr1\t11\t11\t75\t3\t1\nchr1\t12\t12\t0\t0\t2\n"
    "chr1\t20\t21\t100.0\t4\t0\nchr2\t5\t5\t50\t1\t1\n"
)
REPORT = (
    "chr1\t9\t+\t0\t7\tCHH\tCAA\n"
    "chr1\t11\t+\t3\t1\tCG\tCGT\n"
    "chr1\t12\t-\t2\t0\tCG\tCGA\n"
    "chr1\t14\t-\t1\t2\tCHG\tCAG\n"
    "chr1\t21\t-\t0\t4\tCG\tCGN\n"
    "chr2\t5\t+\t0\t0\tCG\tCGG\n"
)


def regions_of(*rows, build="hg38"):
    chrom, start, end = zip(*rows, strict=True)
    return RegionSet(np.array(chrom), np.array(start), np.array(end), build)


REGIONS = regions_of(
    ("chr1", 10, 11), ("chr1", 11, 20), ("chr1", 0, 100), ("chr2", 4, 5), ("3", 0, 9)
)


def write(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("change", [str, lambda t: t.replace("\n", "\r\n"), str.rstrip])
def test_coverage_file_counted_by_hand(tmp_path, change):
    counts = read_bismark_cov(write(tmp_path, change(COV), "liver.bismark.cov"), REGIONS)
    assert counts.samples.index.tolist() == ["liver"]
    assert counts.methylated.tolist() == [[3, 4, 7, 1, 0]]
    assert counts.coverage.tolist() == [[4, 6, 10, 2, 0]]
    assert counts.methylated.dtype == np.int32


def test_report_counts_both_strands_at_the_c_and_estimates_the_conversion(tmp_path):
    path = write(tmp_path, gzip.compress(REPORT.encode(), mtime=0), "liver.CX_report.txt.gz")
    counts = read_cytosine_report(path, REGIONS)
    # 12 on the reverse strand is the CpG at 11: position 10 from 0.
    assert counts.methylated.tolist() == [[5, 0, 5, 0, 0]]
    assert counts.coverage.tolist() == [[6, 4, 10, 0, 0]]
    assert counts.samples["conversion"].to_dict() == {"liver": 0.9}


def test_report_of_cpgs_alone_says_nothing_about_conversion(tmp_path):
    lines = "".join(line for line in REPORT.splitlines(keepends=True) if "\tCG\t" in line)
    counts = read_cytosine_report(write(tmp_path, lines, "a.CpG_report.txt"), REGIONS)
    assert counts.samples.columns.tolist() == []
    assert counts.samples.index.tolist() == ["a"]


def test_sums_beyond_32_bits_are_exact_outside_cpgs_and_refused_in_regions(tmp_path):
    big = "chr1\t9\t+\t0\t2000000000\tCHH\tCAA\nchr1\t10\t+\t2000000000\t0\tCHH\tCAA\n"
    counts = read_cytosine_report(
        write(tmp_path, big + REPORT.split("\n", 1)[1], "a.txt"), REGIONS
    )
    assert counts.samples["conversion"].iloc[0] == pytest.approx(0.5, abs=1e-8)
    big = "".join(f"chr1\t{p}\t+\t2000000000\t0\tCG\tCGA\n" for p in (11, 15))
    with pytest.raises(InputError, match="a count is too large; got 4000000000"):
        read_cytosine_report(write(tmp_path, big, "b.txt"), REGIONS)


@pytest.mark.parametrize("names", ["chr1 chrM chrX", "1 MT X"])
def test_chromosomes_match_with_and_without_chr(tmp_path, names):
    text = "".join(f"{name}\t6\t6\t100\t{i}\t0\n" for i, name in enumerate(names.split(), 1))
    regions = regions_of(("X", 0, 9), ("chrM", 0, 9), ("1", 0, 9))
    counts = read_bismark_cov(write(tmp_path, text, "a.cov"), regions)
    assert counts.coverage.tolist() == [[3, 2, 1]]
    assert "of the file is taken as" in counts.notes[0]


def test_positions_outside_the_chromosomes_of_the_build_are_refused(tmp_path):
    path = write(tmp_path, COV + "chr3\t198100000\t198100000\t100\t1\t0\n", "a.cov")
    with pytest.raises(MismatchError, match=r"another genome build than hg19.*would fit hg38"):
        read_bismark_cov(path, regions_of(("chr1", 0, 99), build="hg19"))


def random_regions(rng, n=60, end=3000):
    start = rng.integers(0, end, n)
    rows = {
        ("chr" + str(rng.integers(1, 4)), int(s), int(s + rng.integers(1, 400))) for s in start
    }
    return regions_of(*sorted(rows, key=lambda row: row[::-1]))


@pytest.mark.parametrize("block_bytes", [50, 1000, 1 << 21])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_files_and_overlapping_regions_agree_with_a_plain_loop(
    tmp_path, monkeypatch, seed, block_bytes
):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(seed)
    regions = random_regions(rng)
    cov, report = [], []
    for chrom in ("chr2", "chr1", "scaffold", "chr3"):
        for position in np.unique(rng.integers(2, 3300, 400)):
            n, k = rng.poisson(8, 2)
            if n + k:
                cov.append(f"{chrom}\t{position}\t{position}\t{100 * n / (n + k):.15g}\t{n}\t{k}")
            context = rng.choice(["CG", "CHG", "CHH"])
            three = {"CG": "CG", "CHG": "CAG", "CHH": "CTT"}[context].ljust(3, "A")
            report.append(
                f"{chrom}\t{position}\t{rng.choice(['+', '-'])}\t{n}\t{k}\t{context}\t{three}"
            )
    path = write(tmp_path, "\n".join(cov), "a.cov")  # no last line end
    expected = counts_in(bismark_cov(path.read_bytes()), regions)
    counts = read_bismark_cov(path, regions)
    assert (counts.methylated[0].tolist(), counts.coverage[0].tolist()) == expected
    assert counts.coverage.sum() > 1000
    path = write(tmp_path, "\n".join(report), "a.txt")
    calls, conversion = cytosine_report(path.read_bytes())
    counts = read_cytosine_report(path, regions)
    assert (counts.methylated[0].tolist(), counts.coverage[0].tolist()) == counts_in(
        calls, regions
    )
    assert counts.samples["conversion"].iloc[0] == pytest.approx(conversion, abs=1e-12)


def test_real_coverage_file_agrees_with_a_plain_loop(shared_data):
    path = shared_data / "formats" / "bismark_chr1_100k.cov.gz"
    regions = regions_of(
        ("chr1", 10468, 10490), ("chr1", 10000, 10600), ("chr1", 10483, 10484), ("chr1", 0, 10**6)
    )
    counts = read_bismark_cov(path, regions)
    calls = bismark_cov(gzip.decompress(path.read_bytes()))
    assert (counts.methylated[0].tolist(), counts.coverage[0].tolist()) == counts_in(
        calls, regions
    )
    # By hand: 10484 (1-based) has 15 methylated and 1 unmethylated.
    assert (counts.methylated[0, 2], counts.coverage[0, 2]) == (15, 16)
    assert len(calls) == 271


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("chr1\t12\t12", "chr1\t12\t14", "line 2: start and end are no CpG; got 'chr1"),
        ("chr1\t12\t12", "chr1\t0\t0", "line 2: start and end are no CpG"),
        ("chr1\t12\t12", "chr1\t12\t11", "line 2: start and end are no CpG"),
        ("chr1\t12\t12", "chr1\t-12\t12", "line 2: start is no whole number"),
        ("chr1\t12\t12", "chr1\t11\t11", "line 2: a site comes twice"),
        ("chr1\t12\t12", "chr1\t10\t10", "line 2: not sorted by position"),
        ("chr1\t12\t12", "chr3\t12\t12", "line 3: not sorted: chr1 comes again"),
        ("chr1\t12\t12", "\t12\t12", "line 2: chrom is no name"),
        ("chr1\t12\t12", "chr 1\t12\t12", "line 2: chrom is no name"),
        ("chr1\t12\t12", "chr1 12 12", r"line 2: a line has not 6 columns.*expected chrom, start"),
        ("\t0\t2\n", "\t0\t2\n\n", "line 3: a line has not 6 columns; got ''"),
        ("\t0\t2\n", "\t0\t2\t0\n", "line 2: a line has not 6 columns"),
        ("75\t3\t1", "75\t1\t3", "line 1: the percentage is not that of the counts"),
        ("75\t3\t1", "3\t75\t1", "line 1: the percentage is not that of the counts"),
        ("75\t3\t1", "175\t3\t1", "line 1: % methylated is no number from 0 to 100"),
        ("75\t3\t1", "nan\t3\t1", "line 1: % methylated is no number from 0 to 100"),
        ("75\t3\t1", "7.5e1\t3\t1", "line 1: % methylated is no number from 0 to 100"),
        ("75\t3\t1", "75\t3.0\t1", "line 1: n methylated is no whole number"),
        ("75\t3\t1", "75\t9999999999\t1", "line 1: n methylated is no whole number"),
        ("75\t3\t1", "75\t3\t", "line 1: n unmethylated is no whole number"),
        ("chr", "chr9", r"no region is covered; got calls on chr91, chr92; expected calls in reg"),
    ],
)
def test_bad_coverage_files_are_refused_with_their_place(tmp_path, old, new, message):
    assert old in COV
    with pytest.raises((InputError, MismatchError), match=message) as caught:
        read_bismark_cov(write(tmp_path, COV.replace(old, new), "a.cov"), REGIONS)
    assert "a.cov" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\t-\t2", "\t.\t2", r"line 3: unknown strand.*expected \+ or -"),
        ("chr1\t12\t-", "chr1\t1\t-", "line 3: not a position"),
        ("chr1\t12\t-", "chr1\t11\t-", "line 3: a site comes twice"),
        ("CG\tCGA", "CpG\tCGA", "line 3: unknown context.*expected CG, CHG or CHH"),
        ("CG\tCGA", "CGA\tCG", "line 3: unknown context"),
        ("CG\tCGA", "CG\tCG", "line 3: trinucleotide has not 3 letters"),
        ("CG\tCGA", "CG\tCAG", "line 3: context and trinucleotide disagree"),
        ("CG\tCGA", "CG\tAGC", "line 3: context and trinucleotide disagree"),
        ("CG\tCGA", "CG\tCG?", "line 3: context and trinucleotide disagree"),
    ],
)
def test_bad_reports_are_refused_with_their_place(tmp_path, old, new, message):
    assert old in REPORT
    with pytest.raises(InputError, match=message):
        read_cytosine_report(write(tmp_path, REPORT.replace(old, new), "a.txt"), REGIONS)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "a.cov", "the file is empty"),
        (COV.encode(), "a.cov.gz", "suffix and content disagree"),
        (gzip.compress(COV.encode(), mtime=0), "a.cov", "suffix and content disagree"),
        (gzip.compress(COV.encode(), mtime=0)[:-9], "a.cov.gz", "the file is damaged or cut off"),
        (
            gzip.compress(COV.encode(), mtime=0) + b"junk",
            "a.cov.gz",
            "the file is damaged or cut off",
        ),
        (gzip.compress(b"", mtime=0), "a.cov.gz", "the file is empty"),
        (bytes(range(256)) * 4, "a.cov", "the content is not what the suffix says"),
        (COV.encode() + b"C" * (1 << 23), "a.cov", "not lines"),
    ],
)
def test_files_that_are_something_else_are_refused(tmp_path, content, name, message):
    with pytest.raises(InputError, match=message):
        read_counts(write(tmp_path, content, name), regions=REGIONS)


def test_line_numbers_count_through_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 64)
    text = "".join(f"chr1\t{p}\t{p}\t50\t1\t1\n" for p in range(1, 100))
    with pytest.raises(InputError, match="line 100: a site comes twice"):
        read_bismark_cov(write(tmp_path, text + text[-18:], "a.cov"), REGIONS)
