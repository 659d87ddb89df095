"""Counts survive the disk unchanged, and damaged files are noticed."""

from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest

from deconv.errors import InputError
from deconv.regions import RegionSet
from deconv.store import create_counts, write_h5ad
from deconv.stored import read_h5ad


@pytest.fixture
def written(tmp_path, make_counts):
    counts = make_counts(tissue=["a", "b"], donor=["x", "y"])
    path = tmp_path / "counts.h5ad"
    write_h5ad(counts, path)
    return path, counts


def test_round_trip_keeps_everything(tmp_path, pure, unseen):
    from deconv.evaluate import draw_mixtures

    mixtures = draw_mixtures(unseen, 5)
    for counts in (pure, mixtures):
        write_h5ad(counts, tmp_path / "again.h5ad")
        again = read_h5ad(tmp_path / "again.h5ad")
        assert again.content_hash == counts.content_hash
        np.testing.assert_array_equal(again.coverage, counts.coverage)
        pd.testing.assert_frame_equal(again.samples, counts.samples, check_column_type=False)
    pd.testing.assert_frame_equal(again.proportions, mixtures.proportions)


def test_round_trip_keeps_what_is_known_of_the_cpgs(tmp_path, make_counts):
    counts = make_counts()
    known = {"start_cpg": [5, 9], "end_cpg": [7, 12], "direction": ["U", "M"]}
    columns = {**counts.regions.columns(), **known}
    counts = replace(counts, regions=RegionSet.from_columns(columns, "hg19", "u_fragment"))
    write_h5ad(counts, tmp_path / "c.h5ad")
    again = read_h5ad(tmp_path / "c.h5ad")
    assert again.content_hash == counts.content_hash
    assert again.regions.start_cpg.tolist() == [5, 9]
    assert again.regions.direction.tolist() == ["U", "M"]


def test_other_tools_can_read_the_file(written):
    anndata = pytest.importorskip("anndata")
    table = anndata.read_h5ad(written[0])
    assert table.layers["methylated"].tolist() == [[1, 2], [0, 3]]
    assert table.obs["tissue"].tolist() == ["a", "b"]


def test_truncated_file_is_refused(written):
    path, _ = written
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"counts\.h5ad: damaged, truncated or not"):
        read_h5ad(path)


def test_changed_count_is_noticed(written):
    path, _ = written
    with h5py.File(path, "r+") as file:
        file["layers/methylated"][0, 0] = 0
    with pytest.raises(InputError, match="content is not what was written"):
        read_h5ad(path)


def test_broken_rule_inside_a_file_names_the_file(written):
    path, _ = written
    with h5py.File(path, "r+") as file:
        file["layers/methylated"][0, 0] = 99
    with pytest.raises(InputError, match=r"counts\.h5ad: .*methylated exceeds coverage"):
        read_h5ad(path)


def test_other_content_is_refused(tmp_path):
    path = tmp_path / "other.h5ad"
    path.write_text("hello")
    with pytest.raises(InputError, match="damaged, truncated or not"):
        read_h5ad(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        read_h5ad(path)


def test_interrupted_writing_leaves_the_old_file_and_no_other(written):
    path, counts = written

    def write_half():
        with create_counts(path, counts.regions, counts.samples) as writer:
            writer.append(counts.methylated[0], counts.coverage[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert read_h5ad(path).content_hash == counts.content_hash
    assert [p.name for p in path.parent.iterdir()] == ["counts.h5ad"]
