"""Atlases in every form: opened, written, read again, and their tissues regrouped."""

import numpy as np
import pandas as pd
import pytest

from deconv.atlas import build_atlas
from deconv.errors import ConfigError, DeconvError, InputError, MismatchError
from deconv.formats.atlases import open_atlas, reference_of, write_atlas
from deconv.reference import Reference, TissueMap, read_tissue_map, regroup
from deconv.store import write_h5ad

REAL = {  # tissues, regions, feature, build (stated, or told from the coordinates), of donors
    "uxm/Atlas.U25.l4.hg19.tsv": (36, 900, "u_fragment", "hg19", False),
    "meth_atlas/reference_atlas.csv": (25, 6105, "cpg", "array", False),
    "nanomix/39Bisulfite.tsv": (39, 7697, "cpg", "hg38", False),
    "metdecode/atlas-with-rep.tsv": (13, 294, "cpg", "hg38", True),
}
MEANS = """chr\tstart\tend\tA\tB\tC
chr1\t10\t20\t0.1\t0.9\tNA
chr1\t30\t40\t0.3\t0.5\t0.8
"""


@pytest.fixture
def means_file(tmp_path):
    path = tmp_path / "means.tsv"
    path.write_text(MEANS)
    return path


@pytest.fixture
def means(means_file):
    return open_atlas(means_file, build="hg38")


@pytest.mark.parametrize("name", list(REAL))
def test_published_atlases_are_opened(shared_data, name):
    reference = open_atlas(shared_data / name)
    n_tissues, n_regions, feature, build, has_donors = REAL[name]
    assert (len(reference.tissues), len(reference.regions)) == (n_tissues, n_regions)
    assert (reference.regions.feature, reference.regions.build) == (feature, build)
    assert (reference.donors is not None) is has_donors
    assert reference.atlas.tissues == reference.tissues


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz", ".h5ad"])
@pytest.mark.parametrize("name", list(REAL))
def test_written_and_read_again_nothing_is_lost(shared_data, tmp_path, name, suffix):
    reference = open_atlas(shared_data / name)
    path = tmp_path / f"atlas{suffix}"
    write_atlas(reference, path)
    again = open_atlas(path)
    assert again.regions.content_hash == reference.regions.content_hash
    assert again.atlas.content_hash == reference.atlas.content_hash
    if reference.donors is not None:
        assert again.donors.content_hash == reference.donors.content_hash
    else:
        np.testing.assert_array_equal(again.means.stated, reference.means.stated)
        np.testing.assert_array_equal(again.target, reference.target)


def test_several_samples_of_a_donor_stay_apart(make_counts, tmp_path):
    counts = make_counts(tissue=["a", "b"], donor=["p", "p"])
    write_atlas(Reference(donors=counts), tmp_path / "atlas.tsv")
    again = open_atlas(tmp_path / "atlas.tsv").donors
    assert again.samples.to_dict() == counts.samples.to_dict()
    assert again.methylated.tolist() == counts.methylated.tolist()


@pytest.mark.parametrize("suffix", [".tsv", ".h5ad"])
def test_atlas_of_a_model_keeps_its_dispersion(atlas, tmp_path, suffix):
    path = tmp_path / f"atlas{suffix}"
    write_atlas(reference_of(atlas), path)
    again = open_atlas(path).atlas
    assert again.content_hash == atlas.content_hash
    assert again.n_donors.tolist() == [3] * 6
    assert len(set(again.rho.tolist())) > 100


def test_labels_of_an_atlas_that_names_its_tissues_are_refused(means_file):
    with pytest.raises(InputError, match="names its tissues"):
        open_atlas(means_file, build="hg38", labels=means_file)


def test_values_of_means_are_those_of_the_file(means):
    assert means.tissues == ("A", "B", "C")
    assert means.means.stated[:2].tolist() == [[0.1, 0.3], [0.9, 0.5]]
    assert np.isnan(means.means.stated[2, 0])
    assert means.atlas.mean[2].tolist() == pytest.approx([0.5, 0.8])  # of the others: neutral


def test_merged_means_are_the_members_mean_and_dropped_tissues_go(means):
    merged = regroup(means, TissueMap(merge={"AC": ("A", "C")}))
    assert merged.tissues == ("AC", "B")
    np.testing.assert_allclose(merged.means.stated, [[0.1, 0.55], [0.9, 0.5]])
    assert regroup(means, TissueMap(drop=("B",))).tissues == ("A", "C")


def test_merged_donors_keep_their_samples(pure):
    merged = regroup(
        Reference(donors=pure), TissueMap(merge={"Gut": ("Colon", "Liver")}, drop=("Lung",))
    )
    samples = merged.donors.samples
    assert samples["tissue"].value_counts().to_dict() == {
        "Blood": 5, "Cortex": 5, "Heart": 5, "Gut": 10,
    }  # fmt: skip
    assert not set(samples.index) - set(pure.samples.index)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"drop": ("b",)}, "no such tissue in the atlas; got b; expected A, B, C"),
        ({"drop": ("Bx",)}, "no such tissue in the atlas; got Bx; expected B?"),
        ({"drop": ("A",), "merge": {"N": ("A", "B")}}, "a tissue is named twice; got A"),
        ({"merge": {"C": ("A", "B")}}, "a new name is that of a tissue that stays; got C"),
    ],
)
def test_map_that_does_not_fit_is_refused(means, wanted, message):
    with pytest.raises(ConfigError) as error:
        regroup(means, TissueMap(**wanted), where="map.yaml")
    assert str(error.value).startswith(f"map.yaml: {message}")


@pytest.mark.parametrize(
    "text", ["merge: [A, B]", "drop: {A: 1}", "drops: [A]", "just text", "merge: {a: b: c}"]
)
def test_file_that_is_no_map_is_refused(tmp_path, text):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"map\.yaml"):
        read_tissue_map(path)


def test_all_merged_into_one_tissue_is_refused(means):
    with pytest.raises(ConfigError, match="fewer than two tissues; got N; expected two or more"):
        regroup(means, TissueMap(merge={"N": ("A", "B", "C")}))


def test_edited_or_cut_atlas_is_refused(means, tmp_path):
    path = tmp_path / "atlas.tsv"
    write_atlas(means, path)
    text = path.read_text()
    for broken in (
        text.replace('"version": 1', '"version": 9'),
        text.replace("#deconv-atlas {", "#deconv-atlas "),
        text.replace("0.9", "1.9"),
        text.replace("0.9", "x"),
        text.split("\n")[0],
    ):
        path.write_text(broken)
        with pytest.raises(DeconvError, match=r"atlas\.tsv"):
            open_atlas(path)


def test_damaged_h5ad_of_means_is_refused(means, tmp_path):
    path = tmp_path / "atlas.h5ad"
    write_atlas(means, path)
    content = path.read_bytes()
    path.write_bytes(content.replace(np.float64(0.9).tobytes(), np.float64(0.8).tobytes()))
    assert path.read_bytes() != content
    with pytest.raises(InputError, match="not what was written"):
        open_atlas(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"atlas\.h5ad"):
        open_atlas(path)


def test_another_build_than_stated_is_refused(means, tmp_path, pure):
    for name in ("atlas.tsv", "atlas.h5ad"):
        write_atlas(means, tmp_path / name)
        with pytest.raises(DeconvError, match=r"another genome build.*hg38.*hg19"):
            open_atlas(tmp_path / name, build="hg19")
    write_h5ad(pure, tmp_path / "pure.h5ad")
    with pytest.raises(MismatchError, match="another genome build"):
        open_atlas(tmp_path / "pure.h5ad", build="hg19")


def test_samples_without_tissues_need_a_table(make_counts, tmp_path):
    path, labels = tmp_path / "counts.h5ad", tmp_path / "labels.csv"
    write_h5ad(make_counts(), path)
    with pytest.raises(InputError, match="no tissue in a sample name"):
        open_atlas(path)
    pd.DataFrame({"sample": ["s0", "s1"], "tissue": ["a", "b"]}).to_csv(labels, index=False)
    reference = open_atlas(path, labels=labels)
    assert reference.tissues == ("a", "b")
    assert reference.atlas.content_hash == build_atlas(reference.donors).content_hash
