"""Atlases of files of pure samples: few of them in memory at a time."""

import tracemalloc

import numpy as np
import pytest

from deconv.build import build_reference
from deconv.errors import DeconvError
from deconv.formats import read_counts
from deconv.formats.atlases import open_atlas, write_atlas
from deconv.formats.region_file import read_regions

N_REGIONS = 51_089
BYTES_OF_SAMPLE = 2 * 4 * N_REGIONS


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """One small genome under many names, regions in it, and a sheet of the first n."""
    folder = tmp_path_factory.mktemp("samples")
    pairs = np.random.default_rng(0).integers(0, 40, (8 * N_REGIONS, 2), dtype=np.uint8)
    np.sort(pairs, axis=1).tofile(folder / "s0.beta")
    for i in range(1, 60):
        (folder / f"s{i}.beta").hardlink_to(folder / "s0.beta")
    first = 8 * np.arange(N_REGIONS) + 1
    rows = [f"chr1\t{100 * i}\t{100 * i + 50}\t{a}\t{a + 8}" for i, a in enumerate(first)]
    (folder / "regions.bed").write_text("\n".join(rows))

    def sheet(n):
        path = folder / f"sheet{n}.csv"
        rows = [f"s{i},s{i}.beta,{'AB'[i % 2]},p{i}" for i in range(n)]
        path.write_text("\n".join(["sample,path,tissue,donor", *rows]))
        return path

    return folder, sheet


def build(folder, sheet, output):
    reference = build_reference(
        [sheet], regions_path=folder / "regions.bed", build="toy", folder=output.parent, n_jobs=1
    )
    write_atlas(reference, output)


def test_memory_does_not_grow_with_the_samples(samples, tmp_path):
    folder, sheet = samples
    peaks = []
    build(folder, sheet(2), tmp_path / "warm.h5ad")  # what is imported and compiled stays
    for n in (10, 60):
        tracemalloc.start()
        build(folder, sheet(n), tmp_path / f"{n}.h5ad")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 0.1 * 50 * BYTES_OF_SAMPLE
    assert {p.name for p in tmp_path.iterdir()} == {"warm.h5ad", "10.h5ad", "60.h5ad"}
    donors = open_atlas(tmp_path / "60.h5ad").donors
    assert donors.samples["tissue"].tolist() == ["A", "B"] * 30
    regions = read_regions(folder / "regions.bed", build="toy")
    alone = read_counts(folder / "s0.beta", regions=regions)
    *_, (methylated, coverage) = donors.rows()
    assert (methylated == alone.methylated[0]).all()
    assert (coverage == alone.coverage[0]).all()


def test_sample_without_a_tissue_is_named_and_nothing_is_left(samples, tmp_path):
    folder, _ = samples
    paths = [folder / "s0.beta", folder / "s1.beta"]
    options = {"regions_path": folder / "regions.bed", "build": "toy", "folder": tmp_path}
    with pytest.raises(DeconvError, match=r"s0\.beta: no tissue in a sample name; got s0"):
        build_reference(paths, **options, n_jobs=1)
    (tmp_path / "labels.csv").write_text("sample,tissue\ns0,A\n")
    with pytest.raises(DeconvError, match=r"labels\.csv: 1 sample\(s\) have no row.* got s1"):
        build_reference(paths, **options, n_jobs=2, labels=tmp_path / "labels.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["labels.csv"]
