"""Region sets: read as specified, with the genome build stated, inferred or asked for."""

import gzip
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from deconv.counts import RegionCounts
from deconv.errors import DeconvError, InputError, MismatchError
from deconv.formats.atlases import open_atlas, write_atlas
from deconv.formats.region_file import read_regions
from deconv.reference import Reference
from deconv.store import write_h5ad

BED = "chr1\t10\t60\nchr22\t5\t95\n"
BLOCKS = "chr1\t10\t60\t3\t6\nchr22\t5\t95\t8\t9\n"
UXM = (
    "chr\tstart\tend\tstartCpG\tendCpG\ttarget\tname\tdirection\tA\tB\n"
    "chr1\t10\t60\t3\t6\tA\tchr1:10-60\tU\t0.1\t0.9\n"
    "chr22\t5\t95\t8\t9\tB\tchr22:5-95\tM\t0.1\tNA\n"
)


def read(tmp_path, text, name="r.bed", build="hg19", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_regions(path, build=build, **options)


@pytest.mark.parametrize(
    "text",
    [
        BED,
        BED.replace("\n", "\r\n"),
        "\ufeff" + BED,
        "\ufeff# of a spreadsheet\n" + BED,
        "\ufeff#Chr \t start\tEND\n" + BED,
        BED.rstrip(),
        "chrom\tstart\tend\n" + BED,
        "#chr\tstart\tend\n" + BED,
        "track name=x\n# made by hand\n" + BED,
        BED.replace("\n", "\tname\t0\t+\n"),
        BED.replace("\n", "\t5\t1000\t+\n"),  # a name and a score: no room for 995 CpGs
        gzip.compress(BED.encode(), mtime=0),
    ],
)
def test_regions_without_indices(tmp_path, text):
    regions = read(tmp_path, text, name="r.bed" + ".gz" * isinstance(text, bytes))
    assert regions.names.tolist() == ["chr1:10-60", "chr22:5-95"]
    assert (regions.build, regions.feature) == ("hg19", "cpg")
    assert regions.start_cpg is None


@pytest.mark.parametrize(
    "text",
    [
        BLOCKS,
        "#chr\tstart\tend\tstartCpG\tendCpG\n" + BLOCKS,
        "chrom\tstart\tend\tstartCpG\tendCpG\n" + BLOCKS,
        "chr\tstart\tend\tname\tendCpG\tstartCpG\nchr1\t10\t60\tx\t6\t3\nchr22\t5\t95\ty\t9\t8\n",
    ],
)
def test_regions_with_indices(tmp_path, text):
    regions = read(tmp_path, text)
    assert regions.start_cpg.tolist() == [3, 8]
    assert regions.end_cpg.tolist() == [6, 9]
    assert regions.is_same(read(tmp_path, BED))
    assert regions.content_hash != read(tmp_path, BED).content_hash


def test_uxm_atlas_is_a_region_file_that_counts_fragments(tmp_path):
    regions = read(tmp_path, UXM, name="atlas.tsv")
    assert regions.feature == "u_fragment"
    assert regions.direction.tolist() == ["U", "M"]
    cpgs = read(tmp_path, UXM, name="atlas.tsv", feature="cpg")
    assert cpgs.direction is None
    assert cpgs.is_same(read(tmp_path, BED))


def test_counts_give_their_regions(tmp_path, make_counts):
    counts = make_counts()
    write_h5ad(counts, tmp_path / "c.h5ad")
    assert read_regions(tmp_path / "c.h5ad").content_hash == counts.regions.content_hash
    assert read_regions(tmp_path / "c.h5ad", feature="u_fragment").feature == "u_fragment"
    with pytest.raises(MismatchError, match=r"not lifted over.*; got hg38; expected hg19"):
        read_regions(tmp_path / "c.h5ad", build="hg19")


def test_build_is_inferred_only_if_one_fits(tmp_path):
    only_hg38 = BED + "chr17\t83000000\t83000100\n"
    assert read(tmp_path, only_hg38, build="unknown").build == "hg38"
    with pytest.raises(InputError, match=r"not stated; got .* fit hg19 and hg38; expected a stat"):
        read(tmp_path, BED, build="unknown")
    with pytest.raises(InputError, match="coordinates that fit no known build"):
        read(tmp_path, BED.replace("chr22", "chr99"), build="unknown")
    with pytest.raises(MismatchError, match=r"another genome build than hg19.* would fit hg38"):
        read(tmp_path, only_hg38, build="hg19")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("# nothing\n", "line 2: not a table of regions; got no row"),
        ("chr1 10 60\n", "line 1: not a table of regions; got 'chr1 10 60'"),
        ("chrom\tstart\tend\n", "no rows"),
        (BED + "\n" + BED, "line 3: not a readable table: 1 fields; expected 3"),
        ("#x\n" + BED + "chr1\t7\n", "line 4: not a readable table: 2 fields; expected 3"),
        ("#x\n" + BED + "chr1\tx\t9\n", "line 4, column start: .* got 'x'"),
        (BED + "chr1\t10\t60\n", "r.bed: a region occurs twice; got chr1:10-60"),
        (BED + "chr1\t60\t10\n", "r.bed: 1 region.* are not intervals"),
        (BED + "chr1\t60\t70\t3\t4\n", "not a readable table"),
        ("chr\tstart\tend\tstartCpG\nchr1\t1\t9\t1\n", "CpG indices of one end only"),
        ("chr\tstart\tend\tstartCpG\tendCpG\nchr1\t1\t9\tNA\tNA\n", "line 2, column start_cpg"),
        ("chr\tstart\tend\tstartCpG\tendCpG\nchr1\t1\t9\t5\t5\n", "have no CpGs"),
        ("chr\tstart\tend\tstart \nchr1\t1\t9\t1\n", "line 1: a column occurs twice.* start"),
        ("chr\tstart\tend\tdirection\nchr1\t1\t9\tX\n", "unknown direction; got X"),
    ],
)
def test_bad_files_are_refused_with_their_place(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, text)
    assert "r.bed" in str(caught.value)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ("3\t50", "more CpGs than room for them; got CpGs 3 to 50 in chr1:10-60"),
        ("28217447\t28217450", "another genome build than hg19; got CpG 28217449"),
    ],
)
def test_impossible_indices_are_refused(tmp_path, indices, message):
    text = f"chr\tstart\tend\tstartCpG\tendCpG\nchr1\t10\t60\t{indices}\n"
    with pytest.raises(MismatchError, match=message):
        read(tmp_path, text)


def test_real_atlas(shared_data):
    regions = read_regions(shared_data / "uxm" / "Atlas.U25.l4.hg19.tsv", build="hg19")
    assert len(regions) == 900
    assert (regions.end_cpg - regions.start_cpg).min() >= 4


def test_chromosome_of_spaces_only_is_refused(tmp_path):
    path = tmp_path / "r.tsv"
    path.write_text("chr\tstart\tend\nchr1\t1\t5\n \t1\t5\n")
    with pytest.raises(InputError, match="line 3: no chromosome"):
        read_regions(path, build="hg38")


@pytest.fixture
def exported(tmp_path):
    """An atlas of fragments of hg38, as this library writes it in each of its forms."""
    (tmp_path / "uxm.tsv").write_text(UXM)
    reference = open_atlas(tmp_path / "uxm.tsv", build="hg38")
    donors = replace(reference.regions, feature="cpg", direction=None)
    samples = pd.DataFrame({"tissue": ["A", "B"], "donor": ["p", "q"]}, index=["a", "b"])
    counts = RegionCounts(*np.ones((2, 2, 2), dtype=np.int32), donors, samples)
    for suffix in ("tsv", "tsv.gz", "h5ad"):
        write_atlas(reference, tmp_path / f"means.{suffix}")
        write_atlas(Reference(donors=counts), tmp_path / f"donors.{suffix}")
    return reference.regions, donors


@pytest.mark.parametrize("suffix", ["tsv", "tsv.gz", "h5ad"])
def test_atlases_of_this_library_state_build_and_feature(exported, tmp_path, suffix):
    for kind, wanted in zip(("means", "donors"), exported, strict=True):
        path = tmp_path / f"{kind}.{suffix}"
        for build in ("unknown", "hg38", "GRCh38.p14"):
            assert read_regions(path, build=build).content_hash == wanted.content_hash
        with pytest.raises(MismatchError, match=r"not lifted over.*; got hg38; expected hg19"):
            read_regions(path, build="hg19")
        assert read_regions(path, feature="cpg").feature == "cpg"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"hg38"', '"hg38', "the first line is damaged"),
        ('"build"', '"bild"', "a part is missing or damaged; got 'build'"),
        ('"u_fragment"', '"reads"', "unknown feature; got 'reads'"),
        ("\t95\t", "\t99999999\t", "another genome build than hg38"),
        ("\t8\t9\t", "\t8\t999\t", "more CpGs than room"),
    ],
)
def test_damaged_table_of_this_library_gives_no_regions(exported, tmp_path, old, new, message):
    text = (tmp_path / "means.tsv").read_text()
    assert old in text
    (tmp_path / "means.tsv").write_text(text.replace(old, new))
    with pytest.raises(DeconvError, match=message) as caught:
        read_regions(tmp_path / "means.tsv")
    assert "means.tsv" in str(caught.value)


@pytest.mark.parametrize("first", ["chr1", "chrMT"])
def test_one_region_under_two_names_is_refused(tmp_path, first):
    second = {"chr1": "1", "chrMT": "M"}[first]
    text = f"{first}\t10\t60\n{second}\t10\t60\n"
    with pytest.raises(InputError, match=f"occurs twice; got {first}:10-60 and {second}:10-60"):
        read(tmp_path, text)
