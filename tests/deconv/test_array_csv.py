"""Array tables: probes by number, duplicates averaged, refused with file, line and column."""

import csv

import numpy as np
import pytest

from deconv.errors import InputError
from deconv.formats.array_csv import read_array_atlas, read_array_counts

GOOD = "CpGs,Liver,Lung\ncg00000029,0.25,0.9\ncg00000165,0.5,\n"


def write(tmp_path, text):
    path = tmp_path / "array.csv"
    path.write_text(text)
    return path


def test_probes_become_regions_and_beta_values_counts(tmp_path):
    counts = read_array_counts(write(tmp_path, GOOD))
    assert counts.regions.names.tolist() == ["probe:29-30", "probe:165-166"]
    assert (counts.regions.build, counts.regions.feature) == ("array", "cpg")
    assert counts.samples.index.tolist() == ["Liver", "Lung"]
    assert counts.methylated.tolist() == [[25, 50], [90, 0]]
    assert counts.coverage.tolist() == [[100, 100], [100, 0]]  # empty is not observed


def test_pseudo_coverage_is_a_parameter(tmp_path):
    counts = read_array_counts(write(tmp_path, GOOD), coverage=30)
    assert counts.methylated.tolist() == [[8, 15], [27, 0]]
    assert counts.coverage.tolist() == [[30, 30], [30, 0]]
    with pytest.raises(InputError, match="pseudo-coverage must be positive; got 0"):
        read_array_counts(write(tmp_path, GOOD), coverage=0)


def test_duplicates_and_epic_v2_replicates_are_averaged(tmp_path):
    text = GOOD + "cg00000029_TC11,0.75,NA\ncg00000029_BC21,0.5,0.5\ncg00000165,0.7,NaN\n"
    counts = read_array_counts(write(tmp_path, text), coverage=1000)
    assert counts.regions.names.tolist() == ["probe:29-30", "probe:165-166"]
    assert counts.methylated.tolist() == [[500, 600], [700, 0]]
    assert counts.coverage.tolist() == [[1000, 1000], [1000, 0]]


def test_probes_of_other_kinds_are_left_out(tmp_path):
    text = GOOD + "rs9363764,0.5,0.5\nch.1.1234F,0.1,0.1\nnv-GRCh38-chr1-1,0,1\n"
    assert len(read_array_counts(write(tmp_path, text)).regions) == 2


def test_reference_becomes_an_atlas(tmp_path):
    atlas = read_array_atlas(write(tmp_path, GOOD.replace("0.9", "1.0")))
    assert atlas.tissues == ("Liver", "Lung")
    # Lung is not stated at the second probe: it takes the mean of the others.
    np.testing.assert_allclose(atlas.mean, [[0.25, 0.5], [0.999, 0.5]])
    assert atlas.regions.build == "array"
    np.testing.assert_allclose(atlas.rho, 0.02)
    assert (atlas.profile == 1).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.25", "1.01", "line 2, column Liver: 1 value.* not fractions; got '1.01'"),
        ("0.25", "-0.01", "expected a number from 0 to 1, or NA"),
        ("0.25", "high", "got 'high'"),
        ("cg00000165", "cg165", "line 3: 1 probe.* no known ID; got 'cg165'; expected an ID such"),
        ("cg00000165", "", "line 3: 1 probe.* no known ID; got ''"),
        ("cg00000165", "chr1", "no known ID"),
        (",Lung", ",Liver", "a column occurs twice; got Liver"),
        ("cg00000165,0.5,\n", "cg00000165,0.5,0.5,0.5\n", "not a readable table"),
        (GOOD, "CpGs\ncg00000029\n", "no beta values; got 1 rows of columns CpGs"),
        (GOOD, "CpGs,Liver,Lung\n", "no beta values; got 0 rows"),
        (GOOD, "CpGs,Liver,Lung\nrs1,0.1,0.2\n", "no CpG probes"),
    ],
)
@pytest.mark.parametrize("read", [read_array_atlas, read_array_counts])
def test_bad_tables_are_refused_with_their_place(tmp_path, read, old, new, message):
    assert old in GOOD
    with pytest.raises(InputError, match=message) as caught:
        read(write(tmp_path, GOOD.replace(old, new)))
    assert "array.csv" in str(caught.value)


def test_reference_of_one_type_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"array.csv: an atlas needs two tissues or more"):
        read_array_atlas(write(tmp_path, "CpGs,Liver\ncg00000029,0.5\n"))


def test_published_reference_and_examples_belong_together(shared_data):
    folder = shared_data / "meth_atlas"
    atlas = read_array_atlas(folder / "reference_atlas.csv")
    assert atlas.mean.shape == (25, 6105)
    names, probes, values = plain_reading(folder / "reference_atlas.csv")
    assert list(atlas.tissues) == names
    assert atlas.regions.names.tolist() == probes
    assert np.isfinite(values).all()  # none is missing, so none is filled in
    np.testing.assert_allclose(atlas.mean, values.clip(1e-3, 1 - 1e-3), atol=1e-7)
    counts = read_array_counts(folder / "examples.csv")
    assert counts.at_regions(atlas.regions).coverage.min() == 100
    names, probes, values = plain_reading(folder / "examples.csv")
    assert counts.samples.index.tolist() == names
    assert counts.regions.names.tolist() == probes
    seen = np.isfinite(values)
    assert counts.coverage.tolist() == np.where(seen, 100, 0).tolist()
    assert np.abs(counts.methylated - np.where(seen, 100 * values, 0)).max() <= 0.5 + 1e-9


def plain_reading(path):
    """Return columns, regions and values [columns, probes], means of the rows of a probe."""
    copies = {}
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    for probe, *texts in rows:
        values = [float(text) if text not in ("", "NA") else None for text in texts]
        copies.setdefault(int(probe.removeprefix("cg")), []).append(values)
    means = []
    for columns in (zip(*of_probe, strict=True) for of_probe in copies.values()):
        known = [[v for v in column if v is not None] for column in columns]
        means.append([sum(k) / len(k) if k else np.nan for k in known])
    return header[1:], [f"probe:{n}-{n + 1}" for n in copies], np.array(means).T
