"""What is measured of samples, and what is found wrong: hand-made faults, and real files."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from deconv import quality
from deconv.atlas import atlas_from_means
from deconv.counts import RegionCounts
from deconv.findings import find
from deconv.formats import read_counts
from deconv.formats.atlases import open_atlas
from deconv.quality import informative_regions, measure
from deconv.regions import RegionSet

N_TISSUES, N_MARKERS, DEPTH = 4, 30, 40
TISSUES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def markers():
    """An atlas in which each tissue alone is unmethylated in 30 regions; some are on X and Y."""
    n = N_TISSUES * N_MARKERS
    mean = np.full((N_TISSUES, n), 0.9)
    for tissue in range(N_TISSUES):
        mean[tissue, N_MARKERS * tissue : N_MARKERS * (tissue + 1)] = 0.05
    chrom = np.array(["chr1"] * n, dtype="<U5")
    chrom[::15], chrom[1::15] = "chrX", "chrY"
    start = 100 * np.arange(n)
    return atlas_from_means(TISSUES, RegionSet(chrom, start, start + 50, "hg38"), mean)


def sample(atlas, n=1, seed=0, proportions=(0.4, 0.3, 0.2, 0.1), depth=DEPTH, male=True, **labels):
    rng = np.random.default_rng(seed)
    beta = np.array(proportions) @ atlas.mean
    mean = np.full(len(beta), float(depth))
    mean[atlas.regions.chrom == "chrY"] = depth / 2 if male else 0
    coverage = rng.poisson(mean, (n, len(beta)))
    names = pd.Index([f"s{i}" for i in range(n)], name="sample")
    return RegionCounts(
        rng.binomial(coverage, beta), coverage, atlas.regions, pd.DataFrame(labels, index=names)
    )


def found(atlas, counts):
    measured = measure(atlas, counts, informative_regions(atlas))
    return [(f.severity, f.check, f.sample, f.reason) for f in find(measured)]


def test_good_samples_have_no_findings(markers):
    assert found(markers, sample(markers, n=8)) == []


def test_informative_regions_are_the_markers(markers):
    informative = informative_regions(markers)
    expected = np.repeat(np.eye(N_TISSUES, dtype=bool), N_MARKERS, axis=1)
    assert (informative == expected).all()
    target = np.repeat(list(reversed(TISSUES)), N_MARKERS)
    assert (informative_regions(markers, target) == expected[::-1]).all()


def test_tissue_without_strong_markers_has_its_best_regions(markers):
    weak = replace(markers, mean=np.where(markers.mean < 0.5, 0.85, 0.9).astype(np.float32))
    assert (informative_regions(weak).sum(axis=1) >= quality.N_INFORMATIVE).all()


@pytest.mark.parametrize(("n_left", "assessable"), [(4, False), (5, False), (6, True)])
def test_tissue_is_assessable_from_a_fifth_of_its_markers(markers, n_left, assessable):
    counts = sample(markers)
    counts.coverage[:, n_left:N_MARKERS] = 0
    counts.methylated[:, n_left:N_MARKERS] = 0
    measured = measure(markers, counts, informative_regions(markers))
    assert measured.observed.tolist() == [[n_left, *[N_MARKERS] * 3]]
    assert measured.assessable.tolist() == [[assessable, True, True, True]]
    reasons = [f.reason for f in find(measured) if f.check == "markers"]
    expected = f"not assessable: a ({n_left} of 30 informative regions observed)"
    assert reasons == ([] if assessable else [expected])


def test_sample_without_coverage_is_an_error_and_a_shallow_one_is_doubtful(markers):
    counts = sample(markers, n=2, depth=0.5)
    counts.coverage[0] = counts.methylated[0] = 0
    assert ("error", "coverage", "s0", "120 of 120 regions have no observation") in found(
        markers, counts
    )
    shallow = [f for f in found(markers, counts) if "shallow" in f[3]]
    assert [f[:3] for f in shallow] == [("warning", "coverage", "s1")]


def test_counts_the_wrong_way_round_or_of_other_regions_do_not_fit(markers):
    counts = sample(markers, proportions=(0.97, 0.01, 0.01, 0.01))
    inverted = replace(counts, methylated=counts.coverage - counts.methylated)
    order = np.random.default_rng(1).permutation(len(markers.regions))
    shuffled = replace(
        counts, methylated=counts.methylated[:, order], coverage=counts.coverage[:, order]
    )
    for wrong, severity in ((inverted, "warning"), (shuffled, "error")):
        assert {f[0] for f in found(markers, wrong) if f[1] == "outliers"} == {severity}


def test_one_sample_that_fits_worse_than_the_others_is_found(markers):
    counts = sample(markers, n=9)
    rng = np.random.default_rng(2)
    noisy = np.clip(counts.methylated[4] / np.maximum(counts.coverage[4], 1), 0, 1)
    noisy = np.clip(noisy + rng.normal(0, 0.13, noisy.shape), 0, 1)
    counts.methylated[4] = rng.binomial(counts.coverage[4], noisy)
    ((severity, check, name, reason),) = found(markers, counts)
    assert (severity, check, name) == ("warning", "outliers", "s4")
    assert reason.startswith("fits much worse than the other samples")


def test_duplicates_are_found_also_if_not_all_counts_are_the_same(markers):
    counts = sample(markers, n=3, donor=["p", "q", "p"])
    for array in (counts.methylated, counts.coverage):
        array[1] = array[0]
        array[2, :90] = array[0, :90]
    reasons = {f[2]: f[3] for f in found(markers, counts) if f[1] == "duplicates"}
    assert reasons["s1"] == "has the same data as s0, but is of donor q, not p: mixed up?"
    assert reasons["s2"].startswith("has the same counts in 7")
    assert "mixed up" not in reasons["s2"]


def test_independent_samples_of_a_mixture_are_no_duplicates(markers):
    assert not [f for f in found(markers, sample(markers, n=30, depth=8)) if f[1] == "duplicates"]


def test_arrays_have_no_duplicates_by_their_stated_coverage(markers):
    counts = sample(markers, n=2)
    same = np.full_like(counts.coverage, 100)
    counts = replace(counts, coverage=same, methylated=np.repeat([same[0] * 9 // 10], 2, axis=0))
    counts.methylated[1, 0] = 0
    assert not [f for f in found(markers, counts) if f[1] == "duplicates"]


def test_sex_is_told_and_compared(markers):
    male, female = sample(markers, sex=["F"]), sample(markers, male=False, sex=["f"])
    informative = informative_regions(markers)
    assert measure(markers, male, informative).table["sex"].tolist() == ["male"]
    assert measure(markers, female, informative).table["sex"].tolist() == ["female"]
    assert [f for f in found(markers, female) if f[1] == "sex"] == []
    ((severity, _, _, reason),) = [f for f in found(markers, male) if f[1] == "sex"]
    assert (severity, reason) == (
        "error", "stated as female, but chromosome Y says male: mixed up?",
    )  # fmt: skip
    unclear = found(markers, sample(markers, sex=["?"]))
    assert [f[:2] for f in unclear] == [("warning", "sex")]


def test_samples_of_a_donor_that_differ_in_sex_are_found(markers):
    counts = sample(markers, n=2, donor=["p", "p"])
    on_y = markers.regions.chrom == "chrY"
    counts.methylated[1, on_y] = counts.coverage[1, on_y] = 0
    ((severity, check, _, reason),) = [f for f in found(markers, counts) if f[1] == "sex"]
    assert (severity, check) == ("error", "sex")
    assert "s0 male, s1 female" in reason


@pytest.mark.parametrize(
    ("stated", "severity"),
    [("99.5", None), ("0.995", None), (0.98, "warning"), ("80", "error"), ("x", "error"),
     (-1, "error"), (float("nan"), None), ("", None)],
)  # fmt: skip
def test_conversion_is_judged_where_it_is_stated(markers, stated, severity):
    findings = [
        f for f in found(markers, sample(markers, conversion=[stated])) if f[1] == "conversion"
    ]
    assert [f[0] for f in findings] == ([] if severity is None else [severity])


@pytest.mark.parametrize(("name", "n_empty"), [("Liver_STL011", 224), ("Lung_STL002", 226)])
def test_empty_markers_of_real_samples_are_reported(shared_data, name, n_empty):
    reference = open_atlas(shared_data / "uxm" / "Atlas.U25.l4.hg19.tsv")
    counts = read_counts(shared_data / "uxm" / f"{name}.pat.gz", regions=reference.regions)
    informative = informative_regions(reference.atlas, reference.target)
    measured = measure(reference.atlas, counts, informative)
    assert [(f.severity, f.check, f.reason) for f in find(measured)] == [
        ("warning", "markers",
         "not assessable: Smooth-Musc (2 of 25 informative regions observed)"),
        ("note", "coverage", f"{n_empty} of 900 regions have no observation"),
    ]  # fmt: skip


def test_real_sample_the_wrong_way_round_is_an_error(shared_data):
    reference = open_atlas(shared_data / "uxm" / "Atlas.U25.l4.hg19.tsv")
    counts = read_counts(shared_data / "uxm" / "Liver_STL011.pat.gz", regions=reference.regions)
    wrong = replace(counts, methylated=counts.coverage - counts.methylated)
    ((severity, _, _, reason),) = [f for f in found(reference.atlas, wrong) if f[1] == "outliers"]
    assert severity == "error"
    assert "does not resemble the atlas" in reason


def test_near_copies_among_the_real_dilutions_are_found(shared_data):
    folder = shared_data / "metdecode"
    atlas = open_atlas(folder / "atlas-with-rep.tsv").atlas
    counts = read_counts(folder / "insilico_Br62.tsv")
    findings = found(atlas, counts)
    assert {f[1] for f in findings if f[0] != "note"} == {"duplicates"}
    assert ("Br62_rep9_Dep6_Tu0.3", True) in [(f[2], "rep8_Dep6_Tu0.3" in f[3]) for f in findings]
