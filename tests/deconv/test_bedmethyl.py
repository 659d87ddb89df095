"""bedMethyl of modkit and ENCODE: added up as a plain loop does, refused with the line."""

import gzip

import numpy as np
import pytest
from naive_readers import bedmethyl, counts_in

from deconv.errors import InputError
from deconv.formats import text_blocks
from deconv.formats.bedmethyl import read_bedmethyl
from deconv.regions import RegionSet


def modkit(position, m, h, canonical, *, code="m", strand="+", chrom="chr1", sep=" "):
    """One line; m, h and canonical are the observations of the site."""
    valid = m + h + canonical
    modified, other = (h, m) if code[0] == "h" else (m, h)
    first = f"{chrom}\t{position}\t{position + 1}\t{code}\t{valid}\t{strand}\t{position}"
    rest = [modified, canonical, other, 0, 1, 0, 0]
    numbers = sep.join([f"{100 * modified / max(valid, 1):.2f}", *map(str, rest)])
    return f"{first}\t{position + 1}\t255,0,0\t{valid}{sep}{numbers}\n"


def encode(position, coverage, percent, *, strand="+", chrom="chr1"):
    return (
        f"{chrom}\t{position}\t{position + 1}\t.\t{min(coverage, 1000)}\t{strand}\t{position}\t"
        f"{position + 1}\t0,255,0\t{coverage}\t{percent}\n"
    )


def both_codes(*place, **options):
    return modkit(*place, code="h", **options) + modkit(*place, code="m", **options)


MODKIT = (
    both_codes(10, 3, 1, 4)
    + both_codes(11, 0, 2, 0, strand="-")  # the other strand of the CpG at 10
    + both_codes(20, 5, 0, 1, sep="\t").replace(" ", "\t")
    + modkit(30, 0, 2, 2, code="h")
)


def regions_of(*rows, build="hg38"):
    chrom, start, end = zip(*rows, strict=True)
    return RegionSet(np.array(chrom), np.array(start), np.array(end), build)


REGIONS = regions_of(("chr1", 10, 11), ("chr1", 11, 12), ("chr1", 0, 99), ("chr1", 30, 31))


def write(tmp_path, content, name="liver.bed"):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lists(counts):
    return counts.methylated[0].tolist(), counts.coverage[0].tolist()


@pytest.mark.parametrize("change", [str, lambda t: t.replace("\n", "\r\n"), str.rstrip])
@pytest.mark.parametrize("block_bytes", [10, 150, 1 << 21])
def test_5hmc_counts_as_methylated_as_after_bisulfite(tmp_path, monkeypatch, change, block_bytes):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", block_bytes)
    counts = read_bedmethyl(write(tmp_path, change(MODKIT)), REGIONS)
    assert counts.samples.index.tolist() == ["liver"]
    assert lists(counts) == ([6, 0, 13, 2], [10, 0, 20, 4])


def test_5hmc_counts_as_unmethylated_where_5mc_alone_is_asked_for(tmp_path):
    counts = read_bedmethyl(write(tmp_path, MODKIT), REGIONS, hydroxymethylated="unmethylated")
    assert lists(counts) == ([3, 0, 8, 0], [10, 0, 20, 4])


def test_strands_may_be_added_up_already(tmp_path):
    text = modkit(10, 4, 0, 4, strand=".", code="C") + modkit(30, 1, 0, 0, strand=".", code="C")
    assert lists(read_bedmethyl(write(tmp_path, text), REGIONS)) == ([4, 0, 5, 1], [8, 0, 9, 1])
    with pytest.raises(InputError, match="line 1: 5hmC is not told from 5mC"):
        read_bedmethyl(write(tmp_path, text), REGIONS, hydroxymethylated="unmethylated")


def test_motifs_and_bases_other_than_cg_are_left_out(tmp_path):
    text = (
        modkit(10, 4, 1, 3, code="h,CG,0") + modkit(10, 4, 1, 3, code="m,CG,0")
        + modkit(15, 7, 0, 0, code="m,CHH,0") + modkit(15, 7, 0, 0, code="a,A,0")
        + modkit(16, 7, 0, 0, code="a")
    )  # fmt: skip
    assert lists(read_bedmethyl(write(tmp_path, text), REGIONS)) == ([5, 0, 5, 0], [8, 0, 8, 0])


def test_header_lines_are_passed_over(tmp_path):
    path = write(tmp_path, "track name=x\n#chrom\tstart\n" + MODKIT)
    assert lists(read_bedmethyl(path, REGIONS)) == ([6, 0, 13, 2], [10, 0, 20, 4])
    path = write(tmp_path, "#chrom\tstart\n" + MODKIT.replace("\t20\t21\tm", "\t20\t22\tm"))
    with pytest.raises(InputError, match="line 7: not one base"):
        read_bedmethyl(path, REGIONS)
    with pytest.raises(InputError, match="wrong columns"):
        read_bedmethyl(write(tmp_path, "#chrom\tstart\n"), REGIONS)


def test_encode_counts_by_hand(tmp_path):
    text = encode(10, 8, 50) + encode(11, 3, 33, strand="-") + encode(30, 0, 0)
    path = write(tmp_path, gzip.compress(text.encode()), "liver.bed.gz")
    counts = read_bedmethyl(path, REGIONS)
    assert counts.samples.index.tolist() == ["liver"]
    assert lists(counts) == ([5, 0, 5, 0], [11, 0, 11, 0])  # 33 % of 3 is 1
    with pytest.raises(InputError, match="bisulfite data do not tell 5hmC from 5mC"):
        read_bedmethyl(path, REGIONS, hydroxymethylated="unmethylated")


@pytest.mark.parametrize("kind", ["spaces", "tabs", "encode"])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_files_and_overlapping_regions_agree_with_a_plain_loop(
    tmp_path, monkeypatch, seed, kind
):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 5000)
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 3000, 60)
    regions = regions_of(
        *{(f"chr{rng.integers(1, 4)}", s, s + int(rng.integers(1, 400))) for s in start.tolist()}
    )
    text = ""
    for chrom in ("chr2", "chr1", "scaffold", "chr3"):
        for position in np.unique(rng.integers(1, 3300, 300)).tolist():
            place = {"chrom": chrom, "strand": rng.choice(["+", "-"])}
            m, h, canonical = rng.poisson([6, 1, 4]).tolist()
            if kind == "encode":
                n = m + h + canonical
                text += encode(position, n, round(100 * m / max(n, 1)), **place)
                continue
            place["sep"] = {"spaces": " ", "tabs": "\t"}[kind]
            codes = {0: "m", 1: "h"}.get(int(rng.integers(0, 4)), "hm")
            text += "".join(modkit(position, m, h, canonical, code=c, **place) for c in codes)
    path = write(tmp_path, text)
    for choice in ("methylated", "unmethylated")[: 1 if kind == "encode" else 2]:
        expected = counts_in(bedmethyl(text.encode(), choice), regions)
        assert lists(read_bedmethyl(path, regions, hydroxymethylated=choice)) == expected
        assert sum(expected[1]) > 1000


def test_real_file_with_tabs_and_spaces_agrees_with_a_plain_loop(shared_data):
    path = shared_data / "formats" / "modkit_chr20_pileup.bed.gz"
    content = gzip.decompress(path.read_bytes())
    calls = bedmethyl(content)
    assert len(calls) == 17416
    start = np.arange(9_680_000, 10_200_000, 13_000)
    regions = regions_of(*[("chr20", s, s + 15_000) for s in start.tolist()])
    expected = counts_in(calls, regions)
    assert lists(read_bedmethyl(path, regions)) == expected
    assert sum(expected[1]) > 10_000


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("chr1\t20\t21\tm", "chr1\t20\t22\tm", "line 6: not one base"),
        ("chr1\t20\t21\tm", "chr1\t9\t10\tm", "line 6: not sorted by position"),
        ("chr1\t20\t21\tm", "chr1\t20\t21\th", "line 6: rows of one site disagree, or come twice"),
        ("chr1\t20\t21\tm", "chr1\t20\t21\tc", "line 6: unknown modification.*expected m, h or C"),
        ("chr1\t20\t21\tm", "chr1\t20\t21\tmm", "line 6: unknown modification"),
        ("m\t8\t+", "m\t8\t-", "line 2: rows of one site disagree"),
        ("m\t8\t+", "m\t8\t*", "line 2: unknown strand"),
        ("m\t8\t+", "m\t8", "line 2: a line has not 18 columns.*expected the 18 columns of modk"),
        ("8 37.50 3 4 1", "8 37.50 3 4 2", "line 2: modified, canonical and other do not add up"),
        ("8 37.50 3 4 1", "8 37.50 4 3 1", "line 2: the percentage is not that of the counts"),
        ("8 37.50 3 4 1", "8 NaN 3 4 1", "line 2: percent is no number from 0 to 100"),
        ("8 37.50 3 4 1", "8 37.50 3 4 -1", "line 2: n other is no whole number"),
        ("8 37.50 3 4 1", "9 33.33 3 5 1", "line 2: rows of one site disagree"),
        ("chr1\t11\t12\th", "chr1\t0\t1\th", "line 3: not a cytosine of the reverse strand"),
    ],
)
def test_bad_files_are_refused_with_their_place(tmp_path, old, new, message):
    assert old in MODKIT
    with pytest.raises(InputError, match=message) as caught:
        read_bedmethyl(write(tmp_path, MODKIT.replace(old, new)), REGIONS)
    assert "liver.bed" in str(caught.value)


def test_a_third_row_of_a_site_is_refused(tmp_path):
    text = both_codes(10, 3, 1, 4) + modkit(10, 3, 1, 4, code="h")
    with pytest.raises(InputError, match="line 3: rows of one site disagree, or come twice"):
        read_bedmethyl(write(tmp_path, text), REGIONS)


def test_other_bed_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"wrong columns.*expected the 18 columns of modk"):
        read_bedmethyl(write(tmp_path, "chr1\t10\t20\tname\n"), REGIONS)
