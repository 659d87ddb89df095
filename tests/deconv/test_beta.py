"""Counts of every CpG of a genome: added up as plain arithmetic does, builds told apart."""

import numpy as np
import pytest

from deconv.errors import InputError, MismatchError
from deconv.formats import ReadOptions, beta, read_counts
from deconv.formats.beta import read_beta
from deconv.formats.beta_table import read_beta_table
from deconv.formats.uxm_atlas import read_uxm_atlas
from deconv.regions import RegionSet


def regions(ranges, build="toy"):
    start = np.array([a for a, _ in ranges])
    end = np.array([b for _, b in ranges])
    position = 1000 * np.arange(len(ranges))
    chrom = np.array(["chr1"] * len(ranges))
    return RegionSet(chrom, position, position + 500, build, "cpg", start, end)


def write(tmp_path, pairs, name="s.beta"):
    path = tmp_path / name
    np.asarray(pairs, dtype="u1" if name == "s.beta" else "<u2").tofile(path)
    return path


@pytest.mark.parametrize("name", ["s.beta", "s.lbeta"])
@pytest.mark.parametrize("at_once", [1, 50, 1 << 20])
def test_random_regions_agree_with_plain_sums(tmp_path, monkeypatch, name, at_once):
    monkeypatch.setattr(beta, "_CPGS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    top = 255 if name == "s.beta" else 65535
    coverage = rng.integers(0, top + 1, 2000)
    pairs = np.stack([rng.integers(0, coverage + 1), coverage], axis=1)
    start = rng.integers(1, 1900, 80)
    ranges = np.stack([start, start + rng.integers(1, 100, 80)], axis=1).tolist()
    counts = read_beta(write(tmp_path, pairs, name), regions(ranges))
    expected = [[sum(pairs[a - 1 : b - 1, k].tolist()) for a, b in ranges] for k in (0, 1)]
    assert counts.methylated[0].tolist() == expected[0]
    assert counts.coverage[0].tolist() == expected[1]


def test_last_cpg_is_counted_and_no_further(tmp_path):
    path = write(tmp_path, [(0, 1), (2, 3)])
    assert read_beta(path, regions([(2, 3)])).coverage.tolist() == [[3]]
    with pytest.raises(MismatchError, match=r"that the file has not; got 2 CpGs; .* at least 3"):
        read_beta(path, regions([(2, 4)]))


def test_more_methylated_than_observed_is_refused_with_the_cpg(tmp_path):
    path = write(tmp_path, [(0, 1), (2, 3), (4, 3), (9, 1)])
    with pytest.raises(InputError, match=r"s.beta, CpG 3: 1 CpG.* more methylated.*; got 4 of 3"):
        read_beta(path, regions([(2, 4)]))


def test_half_a_cpg_is_refused(tmp_path):
    path = tmp_path / "s.beta"
    path.write_bytes(b"\0\1\0")
    with pytest.raises(InputError, match="cut off; got 3 bytes; expected 2 bytes a CpG"):
        read_beta(path, regions([(1, 2)]))


@pytest.mark.parametrize(
    ("n_cpgs", "build", "message"),
    [
        (28_217_448, "hg38", "got 28217448 CpGs, as hg19 has; expected 29401795 of hg38"),
        (28_217_448, "mm10", "got 28217448 CpGs, as hg19 has; expected those of mm10"),
        (
            28_217_447,
            "hg19",
            "got 28217447 CpGs, as no known build has; .* of hg19",
        ),
    ],
)
def test_length_tells_the_build(tmp_path, n_cpgs, build, message):
    path = tmp_path / "s.beta"
    with path.open("wb") as file:
        file.truncate(2 * n_cpgs)  # sparse: nothing is written
    with pytest.raises(MismatchError, match=f"not lifted over.*; {message}"):
        read_counts(path, regions=regions([(1, 2)], build))


def test_whole_genome_is_added_up_at_real_regions(tmp_path, shared_data):
    atlas = read_uxm_atlas(shared_data / "uxm" / "Atlas.U25.l4.hg19.tsv", build="hg19").atlas
    few = atlas.regions.take(np.arange(0, 900, 9))
    wanted = RegionSet(few.chrom, few.start, few.end, "hg19", "cpg", *few.cpg_ranges)
    rng = np.random.default_rng(1)
    path = tmp_path / "s.beta"
    expected = []
    with path.open("wb") as file:
        file.truncate(56_434_896)
        for a, b in zip(*few.cpg_ranges, strict=True):
            pairs = np.sort(rng.integers(0, 256, (b - a, 2)), axis=1)
            file.seek(2 * (int(a) - 1))
            file.write(pairs.astype("u1").tobytes())
            expected.append(pairs.sum(axis=0).tolist())
    counts = read_counts(path, regions=wanted)
    found = np.stack([counts.methylated[0], counts.coverage[0]], axis=1)
    assert found.tolist() == expected


def test_uncovered_regions_are_refused_together_and_unknown_alone(tmp_path):
    path = write(tmp_path, [(0, 0), (1, 1), (0, 0)])
    assert read_counts(path, regions=regions([(1, 2), (2, 3)])).coverage.tolist() == [[0, 1]]
    with pytest.raises(MismatchError, match="no region is covered; got nothing in 1 regions"):
        read_counts(path, regions=regions([(1, 2)]))


TABLE = "chr\tstart\tend\tstartCpG\tendCpG\ta\nchr1\t10\t60\t3\t6\t0.37\nchr1\t99\t160\t8\t9\tNA\n"


def read_table(tmp_path, text, **options):
    path = tmp_path / "t.tsv"
    path.write_text(text)
    return read_beta_table(path, ReadOptions(**{"pseudo_coverage": 10, **options}))


def test_means_become_counts_of_the_stated_coverage(tmp_path):
    counts = read_table(tmp_path, TABLE, build="hg19")
    assert counts.methylated.tolist() == [[4, 0]]
    assert counts.coverage.tolist() == [[10, 0]]
    assert counts.regions.start_cpg.tolist() == [3, 8]
    assert counts.notes == ("means without coverage are taken as 10 observations",)


@pytest.mark.parametrize(
    ("old", "new", "options", "message"),
    [
        ("0.37", "0.37", {"pseudo_coverage": None}, "means without coverage; .*--pseudo-coverage"),
        ("0.37", "1.37", {}, "line 2, column a: .* not fractions; got '1.37'"),
        ("\t99", "\tx", {}, "line 3, column start: .* got 'x'"),
        ("chr1\t99", "\t99", {}, "line 3: no chromosome"),
        ("endCpG", "end_cpg", {}, "header: wrong columns"),
        ("160\t8\t9", "160\t8\t99", {}, "more CpGs than room"),
        ("160", "250000000", {"build": "hg19"}, "another genome build than hg19"),
    ],
)
def test_bad_tables_of_means_are_refused(tmp_path, old, new, options, message):
    assert old in TABLE
    with pytest.raises((InputError, MismatchError), match=message):
        read_table(tmp_path, TABLE.replace(old, new), **options)
