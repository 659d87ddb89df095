"""Sample sheets: which samples of which files, and what is said of them."""

import pytest

from deconv.errors import InputError
from deconv.formats import ReadOptions
from deconv.inputs import find_sources, is_sheet, read_sheet
from deconv.store import write_h5ad

OPTIONS = ReadOptions()
ONE = "chrom\tstart\tend\tX_METH\tX_DEPTH\nchr1\t0\t50\t1\t2\nchr1\t100\t150\t2\t3\n"


@pytest.fixture
def folder(tmp_path, make_counts):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.tsv").write_text(ONE)
    write_h5ad(make_counts(donor=["old", "old"]), tmp_path / "data" / "many.h5ad")
    return tmp_path


def sheet(folder, text, name="sheet.csv"):
    path = folder / name
    path.write_text(text)
    return path


def test_sheet_names_picks_and_labels_samples(folder):
    path = sheet(
        folder,
        "sample,path,tissue,donor\nP1,data/one.tsv,Liver,D1\ns1,data/many.h5ad,Blood,D2\n",
    )
    opened = [source.open(None, OPTIONS) for source in find_sources([path])]
    assert [list(c.samples.index) for c in opened] == [["P1"], ["s1"]]
    assert [c.samples["donor"].iloc[0] for c in opened] == ["D1", "D2"]
    assert opened[0].samples.columns.tolist() == ["tissue", "donor"]
    assert opened[1].load().methylated.tolist() == [[0, 3]]


def test_files_and_sheets_may_be_mixed_and_a_file_is_opened_once(folder):
    path = sheet(
        folder,
        "sample\tpath\tConversion\r\ns1\tdata/many.h5ad\t99.1\r\n\t\t\r\ns0\tdata/many.h5ad\t\r\n",
        "sheet.tsv",
    )
    one = folder / "data" / "one.tsv"
    sources = find_sources([one, path])
    assert [s.path for s in sources] == [one, folder / "data" / "many.h5ad"]
    samples = sources[1].open(None, OPTIONS).samples
    assert samples.index.tolist() == ["s1", "s0"]
    assert samples["conversion"].tolist()[0] == "99.1"
    assert samples["donor"].tolist() == ["old", "old"]


def test_counts_table_is_no_sheet(folder):
    assert not is_sheet(folder / "data" / "one.tsv")
    assert not is_sheet(folder / "data" / "many.h5ad")
    assert not is_sheet(folder / "absent.csv")
    assert is_sheet(sheet(folder, "path,sample\n"))
    assert is_sheet(sheet(folder, "Sample,file\n"))  # to be told what it lacks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample,path\n", "sheet.csv: the sheet lists no samples"),
        ("sample,path\na,data/one.tsv\nb,data/two.tsv\n", "line 3: no such file; got data/two"),
        ("sample,path\na,data/one.tsv\n,\na,data/many.h5ad\n", "line 4: a sample is listed twice"),
        ("sample,path\na,data/one.tsv\n,data/one.tsv\n", "line 3: no sample"),
        ("sample,path\na,\n", "line 2: no path"),
        ("sample,path,donor\na,data/one.tsv,\n", "line 2: no donor"),
        ("sample,path\na,data\n", "line 2: no such file; got data"),
        ("sample,file\na,b\n", "header: no column path; got sample, file"),
        ("sample,path,Sample\na,b,c\n", "header: a column occurs twice"),
        ("sample,path\na,data/one.tsv,x\n", "sheet.csv, line 2: not a readable table: 3 fields"),
    ],
)
def test_malformed_sheet_is_refused_with_its_line(folder, text, message):
    with pytest.raises(InputError) as error:
        read_sheet(sheet(folder, text))
    assert message in str(error.value)


def test_sample_that_the_file_lacks_is_refused_with_the_line(folder):
    path = sheet(folder, "sample,path\ns0,data/many.h5ad\ns9,data/many.h5ad\n")
    (source,) = find_sources([path])
    with pytest.raises(InputError, match=r"sheet\.csv, line 3: the file has no such .*got s9"):
        source.open(None, OPTIONS)


def test_sheet_with_semicolons_is_refused_with_the_reason(folder):
    path = sheet(folder, "\ufeffsample;path\r\nP1;data/one.tsv\r\n")
    with pytest.raises(InputError, match=r"sheet\.csv: the sheet's columns are separated by semi"):
        find_sources([path])
