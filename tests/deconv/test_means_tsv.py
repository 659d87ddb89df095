"""Tables of means as atlases: read as specified, refused with line and column."""

import numpy as np
import pytest

from deconv.errors import InputError, MismatchError
from deconv.formats.atlas_tables import read_means

GOOD = "chr\tstart\tend\tliver\tT-cell\nchr1\t10\t20\t0.25\tNA\nchr2\t5\t9\t1\t0.5\n"


def read(tmp_path, text, build="hg38"):
    path = tmp_path / "means.tsv"
    path.write_text(text)
    return read_means(path, build=build).atlas


def test_means_by_hand(tmp_path):
    atlas = read(tmp_path, GOOD)
    assert atlas.tissues == ("liver", "T-cell")
    assert atlas.regions.names.tolist() == ["chr1:10-20", "chr2:5-9"]
    # What is not known says nothing for or against T-cells; a mean stays inside 0 and 1.
    np.testing.assert_allclose(atlas.mean, [[0.25, 0.999], [0.25, 0.5]], atol=1e-6)
    assert atlas.n_donors.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("chr\tstart", "start\tchr", "line 1: not a table of regions"),
        ("\tT-cell", "", "wrong columns|not a readable table"),
        ("\tT-cell", "\tliver", "a column occurs twice; got liver"),
        ("0.25", "1.25", "line 2, column liver: 1 value.* are not fractions; got '1.25'"),
        ("0.25", "x", "line 2, column liver: 1 value.* are not fractions; got 'x'"),
        ("\t10\t", "\t30\t", r"1 region\(s\) are not intervals"),
        ("chr2", "", "line 3: no chromosome"),
        ("chr2\t5\t9", "chr1\t10\t20", "a region occurs twice"),
    ],
)
def test_bad_tables_are_refused_with_their_place(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert "means.tsv" in str(caught.value)


def test_coordinates_of_another_build_are_refused(tmp_path):
    with pytest.raises(MismatchError, match="another genome build than hg38"):
        read(tmp_path, GOOD.replace("\t9\t", "\t242500000\t"))


def test_published_atlas_agrees_with_its_text(shared_data):
    path = shared_data / "nanomix" / "39Bisulfite.tsv"
    atlas = read_means(path, build="hg38").atlas
    assert atlas.mean.shape == (39, 7697)
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    known = [[float(v) if v not in ("", "NA") else np.nan for v in line[3:]] for line in lines[1:]]
    expected = np.array(known).T
    is_known = np.isfinite(expected)
    assert (~is_known).sum() == 6
    np.testing.assert_allclose(
        atlas.mean[is_known], expected[is_known].clip(0.001, 0.999), atol=1e-6
    )


@pytest.mark.parametrize("first", ["#comment\n", "track x\n", "#"])
def test_comments_are_refused(tmp_path, first):
    with pytest.raises(InputError, match=r"means\.tsv"):
        read(tmp_path, first + GOOD)


def test_header_in_capitals_is_read(tmp_path):
    text = GOOD.replace("chr\tstart\tend", "Chrom\tSTART\tEnd")
    assert read(tmp_path, text).tissues == ("liver", "T-cell")
