"""Fragments of .pat.gz files: counted as a plain loop counts them, refused with the line."""

import gzip
import os
import shutil

import numpy as np
import pysam
import pytest
from pydantic import ValidationError
from reader_examples import bgzip

from deconv.errors import InputError, MismatchError
from deconv.formats import ReadOptions, text_blocks
from deconv.formats.pat import count_fragments, read_pat
from deconv.formats.uxm_atlas import read_uxm_atlas
from deconv.regions import RegionSet

GOOD = "chr1\t8\tCCTTTT\t3\nchr1\t10\tTTTTTT\t2\nchr1\t14\tCC..CC.CCTT\t1\nchr2\t30\tT\t9\n"


def write(tmp_path, text, name="s.pat.gz"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else bgzip(text.encode()))
    return path


def markers(*ranges, direction="U", chrom="chr1", feature="u_fragment"):
    start = np.array([a for a, _ in ranges])
    end = np.array([b for _, b in ranges])
    position = 1000 * np.arange(len(ranges))
    return RegionSet(
        np.array([chrom] * len(ranges)), position, position + 10, "hg19", feature,
        start, end, np.array([direction] * len(ranges)) if feature == "u_fragment" else None,
    )  # fmt: skip


def naive_counts(lines, wanted, min_cpgs=4):
    """Count U, X and M read by read and CpG by CpG."""
    counts = [[0, 0, 0] for _ in range(len(wanted))]
    for line in lines:
        _, index, pattern, count = line.split("\t")[:4]
        for row, a, b in zip(counts, wanted.start_cpg, wanted.end_cpg, strict=True):
            if int(index) >= b or int(index) + len(pattern) <= a:
                continue
            letters = [c for i, c in enumerate(pattern, int(index)) if a <= i < b and c in "CTH"]
            if len(letters) < min_cpgs:
                continue
            share = sum(c in "CH" for c in letters) / len(letters)
            row[0 if share <= 0.25 else 2 if share >= 0.75 else 1] += int(count)
    return counts


def test_reads_are_trimmed_and_counted_by_hand(tmp_path):
    # [10, 16): TTTT of the first read, TTTTTT of the second, CC of the third (too short).
    # [14, 25): the third read is CCCCCCTT of known CpGs, 6 of 8 = 75 %.
    wanted = markers((10, 16), (14, 25))
    path = write(tmp_path, GOOD)
    assert count_fragments(path, wanted).tolist() == [[5, 0, 0], [0, 0, 1]]
    counts = read_pat(path, wanted)
    assert counts.samples.index.tolist() == ["s"]
    assert counts.regions.feature == "u_fragment"
    assert counts.methylated.tolist() == [[5, 0]]
    assert counts.coverage.tolist() == [[5, 1]]


def test_direction_m_counts_methylated_fragments(tmp_path):
    counts = read_pat(write(tmp_path, GOOD), markers((10, 16), (14, 25), direction="M"))
    assert counts.methylated.tolist() == [[0, 1]]
    assert counts.coverage.tolist() == [[5, 1]]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("TTTC", [1, 0, 0]),  # 25 % is U
        ("TTTCC", [0, 1, 0]),
        ("TTCC", [0, 1, 0]),
        ("CCCT", [0, 0, 1]),  # 75 % is M
        ("HHHT", [0, 0, 1]),  # 5hmC is protected as 5mC is
        ("TT.TT", [1, 0, 0]),
        ("TT.T", [0, 0, 0]),  # three known CpGs
        ("....", [0, 0, 0]),
    ],
)
def test_limits_include_their_ends(tmp_path, pattern, expected):
    path = write(tmp_path, f"chr1\t5\t{pattern}\t1\n")
    assert count_fragments(path, markers((5, 20))).tolist() == [expected]


def test_limits_are_parameters(tmp_path):
    path = write(tmp_path, "chr1\t5\tTTC\t1\nchr1\t5\tTTTTC\t1\n")
    options = ReadOptions(min_cpgs=3)
    assert count_fragments(path, markers((5, 20)), options).tolist() == [[1, 1, 0]]
    options = ReadOptions(min_cpgs=3, u_at_most=0.1, m_at_least=0.3)
    assert count_fragments(path, markers((5, 20)), options).tolist() == [[0, 1, 1]]
    for impossible in ({"min_cpgs": 0}, {"u_at_most": 0.8}, {"m_at_least": 1.1}):
        with pytest.raises(ValidationError):
            ReadOptions(**impossible)


@pytest.mark.parametrize("part_bytes", [40, 1000, 1 << 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_reads_and_overlapping_regions_agree_with_a_plain_loop(
    tmp_path, monkeypatch, seed, part_bytes
):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", part_bytes)
    rng = np.random.default_rng(seed)
    index = np.sort(rng.integers(1, 300, 400))
    patterns = ["".join(rng.choice(list("CCCTTT.H"), rng.integers(1, 20))) for _ in index]
    count = rng.integers(1, 30, len(index))
    rows = zip(index, patterns, count, strict=True)
    lines = [f"chr1\t{i}\t{p}\t{n}\textra" for i, p, n in rows]
    start = rng.integers(1, 300, 40)
    ranges = np.stack([start, start + rng.integers(1, 60, 40)], axis=1)
    wanted = markers(*ranges.tolist())
    path = write(tmp_path, bgzip("\n".join(lines).encode(), block_bytes=500))  # no last newline
    found = count_fragments(path, wanted)
    assert found.sum() > 1000
    assert found.tolist() == naive_counts(lines, wanted)


def test_real_samples_agree_with_a_plain_loop(shared_data):
    uxm = read_uxm_atlas(shared_data / "uxm" / "Atlas.U25.l4.hg19.tsv", build="hg19")
    path = shared_data / "uxm" / "Liver_STL011.pat.gz"
    few = np.arange(0, 900, 20)
    wanted = uxm.atlas.regions.take(few)
    with gzip.open(path, "rt") as file:
        expected = naive_counts(file, wanted)
    assert np.sum(expected) > 500
    assert count_fragments(path, wanted).tolist() == expected


def indexed(path):
    """Put an index beside a file, as wgbstools does."""
    pysam.tabix_index(str(path), force=True, csi=True, seq_col=0, start_col=1, end_col=1)
    return path


def without_index(path):
    plain = path.with_name(f"bare-{path.name}")
    shutil.copy(path, plain)
    return plain


@pytest.mark.parametrize("feature", ["cpg", "u_fragment"])
def test_index_changes_nothing_but_what_is_read(tmp_path, monkeypatch, feature):
    rng = np.random.default_rng(4)
    index = np.sort(rng.integers(1, 60_000, 3000))
    patterns = ["".join(rng.choice(list("CT."), rng.integers(1, 30))) for _ in index]
    # Chromosomes change at 20,000 and 40,000; reads may reach over the end.
    text = "".join(
        f"chr{1 + i // 20_000}\t{i}\t{p}\t2\n" for i, p in zip(index, patterns, strict=True)
    )
    path = indexed(write(tmp_path, text))
    start = np.concatenate([rng.integers(21_000, 38_000, 20), [30_000, 30_001, 39_990]])
    wanted = markers(*[(a, a + 40) for a in start[:-1]], (39_960, 39_970), chrom="chr2",
                     feature=feature)  # fmt: skip
    read_all = read_pat(without_index(path), wanted)
    assert read_all.coverage.sum() > 80
    monkeypatch.setattr("deconv.formats.pat.read_lines", None)
    found = read_pat(path, wanted)
    assert found.methylated.tolist() == read_all.methylated.tolist()
    assert found.coverage.tolist() == read_all.coverage.tolist()
    monkeypatch.undo()
    for chrom in ("chr1", "chr3"):  # of another build, noticed in the same way
        for file in (path, without_index(path)):
            with pytest.raises(MismatchError, match="the CpG indices are of another genome"):
                read_pat(file, markers((30_000, 30_400), chrom=chrom))


def test_reads_too_long_for_the_index_are_found_all_the_same(tmp_path):
    text = "chr1\t5\t" + "C" * 3000 + "\t1\nchr1\t2900\t" + "T" * 1001 + "\t1\n"
    path = indexed(write(tmp_path, text))
    counts = read_pat(path, markers((2990, 3000), feature="cpg"))
    assert (counts.methylated.tolist(), counts.coverage.tolist()) == ([[10]], [[20]])


def test_index_that_is_older_than_the_file_is_not_used(tmp_path):
    path = indexed(write(tmp_path, GOOD))
    index = path.with_name("s.pat.gz.csi")
    index.write_bytes(b"junk")
    with pytest.raises(InputError, match=r"the file or its \.csi index is damaged"):
        read_pat(path, markers((10, 16)))
    os.utime(index, (0, 0))
    assert read_pat(path, markers((10, 16))).coverage.tolist() == [[5]]


def test_cpgs_are_counted_as_a_plain_loop_counts_them(tmp_path, shared_data):
    regions = read_uxm_atlas(shared_data / "uxm" / "Atlas.U25.l4.hg19.tsv", build="hg19")
    few = regions.atlas.regions.take(np.arange(0, 900, 30))
    wanted = RegionSet(few.chrom, few.start, few.end, "hg19", "cpg", few.start_cpg, few.end_cpg)
    path = shared_data / "uxm" / "Lung_STL002.pat.gz"
    expected = np.zeros((2, len(wanted)), dtype=int)
    with gzip.open(path, "rt") as file:
        for line in file:
            _, index, pattern, count = line.split("\t")
            for r, (a, b) in enumerate(zip(*wanted.cpg_ranges, strict=True)):
                inside = [c for i, c in enumerate(pattern, int(index)) if a <= i < b]
                expected[:, r] += int(count) * np.array(
                    [inside.count("C"), inside.count("C") + inside.count("T")]
                )
    counts = read_pat(path, wanted)
    assert expected.sum() > 1000
    assert counts.methylated[0].tolist() == expected[0].tolist()
    assert counts.coverage[0].tolist() == expected[1].tolist()


def test_plain_text_and_chromosomes_without_chr_are_read(tmp_path):
    path = tmp_path / "s.pat"
    path.write_text(GOOD.replace("chr", ""))
    counts = read_pat(path, markers((10, 16)))
    assert counts.coverage.tolist() == [[5]]
    assert counts.notes == ("chromosome 1 of the file is taken as chr1 of the regions",)


def test_markers_without_fragments_are_not_observed(shared_data):
    folder = shared_data / "uxm"
    uxm = read_uxm_atlas(folder / "Atlas.U25.l4.hg19.tsv", build="hg19")
    empty = {}
    for name in ("Liver_STL011", "Lung_STL002"):
        counts = read_pat(folder / f"{name}.pat.gz", uxm.atlas.regions)
        empty[name] = counts.coverage[0] == 0
    assert {name: int(e.sum()) for name, e in empty.items()} == {
        "Liver_STL011": 224, "Lung_STL002": 226,
    }  # fmt: skip
    assert (uxm.target == "Smooth-Musc").sum() == 25
    assert empty["Lung_STL002"][uxm.target == "Smooth-Musc"].sum() == 23


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TTTTTT\t2", "TTTTTT 2", r"line 2: too few columns; got 'chr1\\t10\\tTTTTTT 2'"),
        ("chr1\t10", "\nchr1\t10", "line 2: too few columns; got ''"),
        ("chr1\t10\t", "\t10\t", "line 2: chrom is no name"),
        ("10\tTTTTTT", "10\t", "line 2: no pattern"),
        ("chr1\t10", "chr1\t0", "line 2: not a CpG index.*expected a whole number from 1"),
        ("chr1\t10", "chr1\t1e1", "line 2: CpG index is no whole number"),
        ("TTTTTT\t2", "TTTTTT\t0", "line 2: not a count.*expected a whole number from 1"),
        ("TTTTTT\t2", "TTTTTT\t-2", "line 2: count is no whole number"),
        ("TTTTTT\t2", "TTTTTT\t", "line 2: count is no whole number"),
        ("TTTTTT\t2", "TTTTTT\t2.5\tx", "line 2: count is no whole number"),
        ("TTTTTT\t2", "TTTTTT\t99999999999", "line 2: count is no whole number"),
        ("TTTTTT\t2", "TTTTTT\t9999999999", "too many reads in a region"),
        ("TTTTTT", "TTxTTT", "line 2: unknown letter in a pattern.*expected only C, T, H and"),
        ("chr1\t10", "chr1\t7", "line 2: not sorted by CpG index"),
        (GOOD, "", "the file has no lines"),
    ],
)
def test_bad_lines_are_refused_with_their_place(tmp_path, old, new, message):
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        read_pat(path, markers((10, 16)))
    assert "s.pat.gz" in str(caught.value)


def test_line_numbers_count_through_the_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 64)
    text = "".join(f"chr1\t{i}\tCCCC\t1\n" for i in range(1, 100)) + "chr1\t1\tC\t1\n"
    with pytest.raises(InputError, match="line 100: not sorted"):
        count_fragments(write(tmp_path, text), markers((10, 16)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (GOOD.encode(), "damaged or cut off; got Not a gzipped file"),
        (gzip.compress(GOOD.encode(), mtime=0)[:-9], "damaged or cut off"),
        (bgzip(GOOD.encode())[:-28], "the file is cut off; got no end marker"),
        (bgzip(GOOD.encode())[:20], "cut off"),
        (bgzip(GOOD.encode())[:-9], "the file is cut off; got no end marker"),
        (bgzip(GOOD.encode())[:30] + bgzip(b""), "the file is damaged or cut off"),
        (bgzip(b"C" * (1 << 22)), "not lines; got 4194304 bytes without a line end"),
    ],
)
def test_files_that_are_not_whole_bgzip_are_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        count_fragments(write(tmp_path, content), markers((10, 16)))


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        count_fragments(tmp_path / "none.pat.gz", markers((10, 16)))


def test_indices_of_another_build_are_noticed_by_the_chromosome(tmp_path):
    message = "line 1: the CpG indices are of another genome build than hg19; got chr1 at CpG 8"
    with pytest.raises(MismatchError, match=message):
        count_fragments(write(tmp_path, GOOD), markers((10, 16), chrom="chr2"))


@pytest.mark.parametrize(
    ("ranges", "direction", "message"),
    [
        ([(10, 16), (20, 20)], "U", "chr1:1000-1010: 1 region.* have no CpGs; got startCpG 20"),
        ([(0, 16)], "U", "have no CpGs"),
        ([(10, 16)], "X", "unknown direction; got X; expected U or M"),
    ],
)
def test_impossible_markers_are_refused(ranges, direction, message):
    with pytest.raises(InputError, match=message):
        markers(*ranges, direction=direction)
