"""The UXM atlas: read as specified, refused with file, line and column."""

import numpy as np
import pytest

from deconv.errors import InputError
from deconv.formats.uxm_atlas import read_uxm_atlas

HEADER = "chr\tstart\tend\tstartCpG\tendCpG\ttarget\tname\tdirection\tLiver\tLung\tBlood\n"
GOOD = (
    HEADER
    + "chr1\t100\t200\t11\t16\tLiver\tchr1:100-200\tU\t0.9\t0.1\t0.0\n"
    + "chr2\t50\t90\t40\t44\tLung\tchr2:50-90\tM\tNA\t0.75\t0.25\n"
)


def read(tmp_path, text):
    path = tmp_path / "atlas.tsv"
    path.write_text(text)
    return read_uxm_atlas(path, build="hg19")


def test_table_is_read_as_written(tmp_path):
    uxm = read(tmp_path, GOOD)
    assert uxm.atlas.tissues == ("Liver", "Lung", "Blood")
    assert uxm.atlas.regions.names.tolist() == ["chr1:100-200", "chr2:50-90"]
    assert (uxm.atlas.regions.build, uxm.atlas.regions.feature) == ("hg19", "u_fragment")
    assert uxm.atlas.regions.start_cpg.tolist() == [11, 40]
    assert uxm.atlas.regions.end_cpg.tolist() == [16, 44]
    assert uxm.atlas.regions.direction.tolist() == ["U", "M"]
    assert uxm.target.tolist() == ["Liver", "Lung"]
    np.testing.assert_allclose(uxm.atlas.mean[:, 0], [0.9, 0.1, 0.001], rtol=1e-6)
    assert (uxm.atlas.profile == 1).all()
    np.testing.assert_allclose(uxm.atlas.rho, 0.02)


def test_missing_fraction_becomes_the_mean_of_the_others(tmp_path):
    uxm = read(tmp_path, GOOD)
    np.testing.assert_allclose(uxm.atlas.mean[:, 1], [0.5, 0.75, 0.25])
    np.testing.assert_equal(uxm.fraction, [[0.9, np.nan], [0.1, 0.75], [0.0, 0.25]])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("startCpG", "cpg", "header: wrong columns; got chr, start, end, cpg, .*expected chr"),
        ("\t0.9\t", "\t1.2\t", "line 2, column Liver: 1 value.* not fractions; got '1.2'"),
        ("\t0.9\t", "\t-0.1\t", "expected a number from 0 to 1, or NA"),
        ("\t0.9\t", "\tx\t", "got 'x'"),
        ("\t0.9\t", "\tinf\t", "got 'inf'"),
        ("\t11\t16", "\t11\t16.5", "line 2, column endCpG: 1 value.* are not counts"),
        ("\t11\t16", "\t16\t11", "chr1:100-200: 1 region.* have no CpGs"),
        ("\tU\t", "\tu\t", "unknown direction; got u"),
        ("\tU\t", "\t\t", "line 2: no direction"),
        ("chr2\t50\t90", "chr1\t100\t200", "a region occurs twice"),
        ("\tLung\tBlood", "\tLung\tLung", "a column occurs twice; got Lung"),
        (GOOD.removeprefix(HEADER), "", "the table has no rows"),
        ("\t0.25\n", "\t0.25\t0.5\n", "not a readable table"),
    ],
)
def test_bad_tables_are_refused_with_their_place(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert "atlas.tsv" in str(caught.value)


def test_published_atlas_agrees_with_its_text(shared_data):
    path = shared_data / "uxm" / "Atlas.U25.l4.hg19.tsv"
    uxm = read_uxm_atlas(path, build="hg19")
    assert uxm.atlas.mean.shape == (36, 900)
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert lines[0][8:] == list(uxm.atlas.tissues)
    assert uxm.atlas.regions.names.tolist() == [row[6] for row in lines[1:]]
    text = np.array([row[8:] for row in lines[1:]]).T
    stated = text != "NA"
    assert (~stated).sum() == 1077
    np.testing.assert_array_equal(np.isfinite(uxm.fraction), stated)
    values = text[stated].astype(float)
    np.testing.assert_array_equal(uxm.fraction[stated], values)
    np.testing.assert_allclose(uxm.atlas.mean[stated], values.clip(1e-3, 1 - 1e-3), atol=1e-6)
