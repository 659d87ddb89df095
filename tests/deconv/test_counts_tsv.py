"""Counts tables: read as specified, refused with file, line and column."""

import csv
import gzip

import pytest

from deconv.errors import InputError, MismatchError
from deconv.formats import ReadOptions, read_counts
from deconv.formats.counts_tsv import label_samples

GOOD = "chrom\tstart\tend\tliver-1_METH\tliver-1_DEPTH\nchr1\t10\t20\t3\t4\nchr2\t5\t9\t0\t0\n"


def read(tmp_path, text, name="counts.tsv", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_counts(path, options=ReadOptions(**options))


@pytest.mark.parametrize("transform", [str, str.upper, lambda s: s.replace("\n", "\r\n")])
def test_table_is_read_whatever_the_case_and_line_ends(tmp_path, transform):
    counts = read(tmp_path, transform(GOOD), build="hg19")
    assert [n.lower() for n in counts.regions.names] == ["chr1:10-20", "chr2:5-9"]
    assert counts.regions.build == "hg19"
    assert counts.methylated.tolist() == [[3, 0]]
    assert counts.coverage.tolist() == [[4, 0]]


def test_gzip_is_read(tmp_path):
    counts = read(tmp_path, gzip.compress(GOOD.encode(), mtime=0), name="counts.tsv.gz")
    assert counts.coverage.tolist() == [[4, 0]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("chrom\tstart", "start\tchrom", r"not what the suffix says; got 'start\\tchrom\\tend"),
        (
            "_DEPTH",
            "_TOTAL",
            "a column is missing or unexpected; got liver-1_DEPTH, liver-1_TOTAL",
        ),
        ("\t3\t4", "\t5\t4", "sample liver-1, region chr1:10-20: methylated exceeds coverage"),
        ("\t3\t4", "\t-3\t4", "line 2, column liver-1_METH: 1 value.* are not counts; got '-3'"),
        ("\t3\t4", "\t3.5\t4", "not counts; got '3.5'"),
        ("\t3\t4", "\tNaN\t4", "not counts; got nothing"),
        ("\t3\t4", "\t3\t9999999999", "expected an integer from 0 to 2147483647"),
        ("\t3\t4", "\t3", "line 2: not a readable table: 4 fields; expected 5"),
        ("\t3\t4", "\t3\t4\t5\t6", "not a readable table"),
        ("chr2\t5", "\t5", "line 3: no chromosome"),
        ("chr2\t5\t9", "chr1\t10\t20", "a region occurs twice; got chr1:10-20"),
        ("chr1\t10\t20\t3\t4\nchr2\t5\t9\t0\t0\n", "", "the table has no rows"),
    ],
)
def test_bad_tables_are_refused_with_their_place(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert "counts.tsv" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "counts.tsv", "empty"),
        (b"\xff\xfe\x00junk", "counts.tsv", "not what the suffix says; got binary data"),
        (gzip.compress(GOOD.encode(), mtime=0)[:-9], "counts.tsv.gz", "damaged or cut off"),
        (GOOD.encode(), "counts.tsv.gz", "disagree; got a plain file; expected gzip"),
        (GOOD.encode(), "counts.xls", "unknown suffix"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, content, name, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, content, name=name)


def test_coordinates_of_another_build_are_refused(tmp_path):
    text = GOOD.replace("chr1\t10\t20", "chr17\t83000000\t83000100")
    message = r"counts\.tsv: .* another genome build than hg19; got chr17 position 83000100"
    with pytest.raises(MismatchError, match=message):
        read(tmp_path, text, build="hg19")
    assert read(tmp_path, text, build="hg38").regions.build == "hg38"


@pytest.mark.parametrize(
    ("stated", "build"), [("HG19", "hg19"), ("GRCh38.p14", "hg38"), ("t2t", "t2t")]
)
def test_builds_have_one_name(tmp_path, stated, build):
    assert read(tmp_path, GOOD, build=stated).regions.build == build


def test_build_is_inferred_only_if_one_fits(tmp_path):
    counts = read(tmp_path, GOOD.replace("chr1\t10\t20", "chr17\t83000000\t83000100"))
    assert counts.regions.build == "unknown"  # hg38 and mm10 have such a place
    counts = read(tmp_path, GOOD.replace("chr1\t10\t20", "chr22\t50818000\t51000000"))
    assert counts.regions.build == "hg19"
    note = "the genome build is taken to be hg19: its coordinates fit no other"
    assert counts.notes == (note,)
    assert read(tmp_path, GOOD, build="hg38").notes == ()


def test_tissue_is_the_part_of_the_name_before_the_dash(tmp_path):
    counts = label_samples(read(tmp_path, GOOD))
    assert counts.samples.to_dict("list") == {"tissue": ["liver"], "donor": ["liver-1"]}


def test_tissue_and_donor_come_from_a_table(tmp_path):
    table = tmp_path / "samples.csv"
    table.write_text("sample,tissue,donor\nother,x,y\nliver-1,Liver,D7\n")
    counts = label_samples(read(tmp_path, GOOD), table)
    assert counts.samples.to_dict("list") == {"tissue": ["Liver"], "donor": ["D7"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample,organ\nliver-1,x\n", "wrong columns; got sample, organ"),
        ("sample,tissue\nother,x\n", "have no row"),
        ("sample,tissue\nliver-1,x\nliver-1,y\n", "repeated"),
        ("sample,tissue\nliver-1,x,y\n", "not a readable table"),
    ],
)
def test_bad_sample_tables_are_refused(tmp_path, text, message):
    table = tmp_path / "samples.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=message):
        label_samples(read(tmp_path, GOOD), table)


def test_metdecode_reference_agrees_with_plain_arithmetic(shared_data):
    path = shared_data / "metdecode" / "atlas-with-rep.tsv"
    counts = label_samples(read_counts(path))
    assert (len(counts), len(counts.regions)) == (40, 294)
    assert counts.samples["tissue"].nunique() == 13
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    places = [tuple(row.values())[:3] for row in rows]
    assert counts.regions.names.tolist() == [f"{c}:{s}-{e}" for c, s, e in places]
    for name, methylated, coverage in zip(
        counts.samples.index, counts.methylated.tolist(), counts.coverage.tolist(), strict=True
    ):
        assert methylated == [int(row[f"{name}_METH"]) for row in rows]
        assert coverage == [int(row[f"{name}_DEPTH"]) for row in rows]
    assert 2 * len(counts) + 3 == len(rows[0])
