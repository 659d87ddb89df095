"""Fragments of .pat.gz files: counted as a plain loop counts them, refused with the line."""

import gzip
import struct
import zlib

import numpy as np
import pytest

from deconv.errors import InputError, MismatchError
from deconv.formats import pat_lines
from deconv.formats.pat import Markers, count_fragments, read_pat
from deconv.formats.uxm_atlas import read_uxm_atlas
from deconv.regions import RegionSet

GOOD = "chr1\t8\tCCTTTT\t3\nchr1\t10\tTTTTTT\t2\nchr1\t14\tCC..CC.CCTT\t1\nchr2\t30\tT\t9\n"


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


def write(tmp_path, text, name="s.pat.gz"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else bgzip(text.encode()))
    return path


def markers(*ranges, direction="U", chrom="chr1"):
    start = np.array([a for a, _ in ranges])
    end = np.array([b for _, b in ranges])
    position = 1000 * np.arange(len(ranges))
    regions = RegionSet(
        np.array([chrom] * len(ranges)), position, position + 10, "hg19", "u_fragment"
    )
    return Markers(regions, start, end, np.array([direction] * len(ranges)))


def naive_counts(lines, wanted, min_cpgs=4):
    """Count U, X and M read by read and CpG by CpG."""
    counts = [[0, 0, 0] for _ in range(len(wanted.regions))]
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
    assert count_fragments(path, markers((5, 20)), min_cpgs=3).tolist() == [[1, 1, 0]]
    limits = {"min_cpgs": 3, "u_at_most": 0.1, "m_at_least": 0.3}
    assert count_fragments(path, markers((5, 20)), **limits).tolist() == [[0, 1, 1]]
    with pytest.raises(InputError, match="limits of fragments do not fit; got min_cpgs 0"):
        count_fragments(path, markers((5, 20)), min_cpgs=0)


@pytest.mark.parametrize("part_bytes", [40, 1000, 1 << 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_reads_and_overlapping_regions_agree_with_a_plain_loop(
    tmp_path, monkeypatch, seed, part_bytes
):
    monkeypatch.setattr(pat_lines, "_PART_BYTES", part_bytes)
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
    wanted = Markers(
        uxm.markers.regions.take(few),
        uxm.markers.start_cpg[few],
        uxm.markers.end_cpg[few],
        uxm.markers.direction[few],
    )
    with gzip.open(path, "rt") as file:
        expected = naive_counts(file, wanted)
    assert np.sum(expected) > 500
    assert count_fragments(path, wanted).tolist() == expected


def test_markers_without_fragments_are_not_observed(shared_data):
    folder = shared_data / "uxm"
    uxm = read_uxm_atlas(folder / "Atlas.U25.l4.hg19.tsv", build="hg19")
    empty = {}
    for name in ("Liver_STL011", "Lung_STL002"):
        counts = read_pat(folder / f"{name}.pat.gz", uxm.markers)
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
        ("chr1\t10\t", "\t10\t", "line 2: no chromosome or no pattern"),
        ("10\tTTTTTT", "10\t", "line 2: no chromosome or no pattern"),
        ("chr1\t10", "chr1\t0", "line 2: not a CpG index.*expected a whole number from 1"),
        ("chr1\t10", "chr1\t1e1", "line 2: not a CpG index"),
        ("TTTTTT\t2", "TTTTTT\t0", "line 2: not a count.*expected a whole number from 1"),
        ("TTTTTT\t2", "TTTTTT\t-2", "line 2: not a count"),
        ("TTTTTT\t2", "TTTTTT\t", "line 2: not a count"),
        ("TTTTTT\t2", "TTTTTT\t2.5\tx", "line 2: not a count"),
        ("TTTTTT\t2", "TTTTTT\t99999999999", "line 2: not a count"),
        ("TTTTTT\t2", "TTTTTT\t9999999999", "too many fragments in a region"),
        ("TTTTTT", "TTxTTT", "line 2: unknown letter in a pattern.*expected only C, T, H and"),
        ("chr1\t10", "chr1\t7", "line 2: not sorted by CpG index"),
        (GOOD, "", "the file has no lines"),
    ],
)
def test_bad_lines_are_refused_with_their_place(tmp_path, old, new, message):
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        count_fragments(path, markers((10, 16)))
    assert "s.pat.gz" in str(caught.value)


def test_line_numbers_count_through_the_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(pat_lines, "_PART_BYTES", 64)
    text = "".join(f"chr1\t{i}\tCCCC\t1\n" for i in range(1, 100)) + "chr1\t1\tC\t1\n"
    with pytest.raises(InputError, match="line 100: not sorted"):
        count_fragments(write(tmp_path, text), markers((10, 16)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (GOOD.encode(), "not bgzip; got b'chr1'"),
        (gzip.compress(GOOD.encode()), "not bgzip; got plain gzip; expected a file made by bgzip"),
        (bgzip(GOOD.encode())[:-28], "the file is cut off; got no end marker"),
        (bgzip(GOOD.encode())[:20], "the file is cut off; got no end marker"),
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
