"""What samples tell of each other: by hand, and on real data, whose figures the README states."""

import numpy as np
import pytest

from deconv.alike import compare_samples
from deconv.formats import ReadOptions, read_counts

METDECODE = ("Br62", "Cer77", "Colo", "Ov79")


def relation(methylated, coverage):
    rows = list(zip(np.array(methylated), np.array(coverage), strict=True))
    return compare_samples(lambda: rows, len(rows[0][0]))


def test_relation_is_the_correlation_with_the_mean_of_the_others():
    alike = relation(
        [[1, 2, 0, 9], [4, 2, 0, 1], [0, 3, 6, 0]], [[2, 2, 4, 9], [4, 4, 4, 4], [4, 4, 8, 0]]
    )
    # Betas .5 1 0 1; 1 .5 0 .25; 0 .75 .75 and none.
    first = np.corrcoef([0.5, 1, 0, 1], [0.5, 0.625, 0.375, 0.25])[0, 1]
    last = np.corrcoef([0, 0.75, 0.75], [0.75, 0.75, 0])[0, 1]
    assert alike.relation[[0, 2]] == pytest.approx([first, last])
    assert alike.n_seen.tolist() == [3, 3, 3, 2]


def test_what_cannot_be_compared_is_nan():
    assert np.isnan(relation([[1, 2, 3]], [[4, 4, 4]]).relation).all()  # alone
    assert np.isnan(relation([[1, 2, 3], [0, 0, 0]], [[4, 4, 4], [0, 0, 0]]).relation).all()
    assert np.isnan(relation([[1, 1, 1], [1, 2, 3]], [[4, 4, 4], [4, 4, 4]]).relation).all()


@pytest.fixture
def real(shared_data):
    options = ReadOptions(build="hg38")
    folder = shared_data / "metdecode"
    sets = {n: read_counts(folder / f"insilico_{n}.tsv", options=options) for n in METDECODE}
    sets["pure"] = read_counts(folder / "atlas-with-rep.tsv", options=options)
    for name in ("examples", "reference_atlas"):
        sets[name] = read_counts(shared_data / "meth_atlas" / f"{name}.csv")
    return sets


def test_real_samples_resemble_the_others_and_wrong_ones_do_not(real):
    for counts in real.values():
        methylated, coverage = counts.methylated.copy(), counts.coverage.copy()
        good = relation(methylated, coverage).relation
        assert good.min() > 0.64
        assert np.median(good) > 0.8
        methylated[0] = coverage[0] - methylated[0]
        order = np.random.default_rng(0).permutation(methylated.shape[1])
        methylated[1], coverage[1] = methylated[1][order], coverage[1][order]
        inverted, shuffled = relation(methylated, coverage).relation[:2]
        assert inverted < -0.6
        assert abs(shuffled) < 0.1


def test_what_a_donor_has_beyond_the_tissue_does_not_tell_persons_apart(real):
    """Why no check says that two samples are of the same, or another, person."""
    counts = real["pure"]
    k, n = counts.methylated, counts.coverage
    tissue = np.array([name.split("-")[0] for name in counts.samples.index])
    rng = np.random.default_rng(0)
    half = rng.hypergeometric(k, n - k, n // 2), n // 2
    halves = half, (k - half[0], n - half[1])

    def residual(pair, i, without):
        others = np.flatnonzero((tissue == tissue[i]) & ~np.isin(np.arange(len(k)), without))
        mean = ((k[others].sum(0) + 0.5) / (n[others].sum(0) + 1)).clip(0.02, 0.98)
        methylated, coverage = pair[0][i], np.maximum(pair[1][i], 1)
        variance = mean * (1 - mean) * (1 / coverage + 0.02)
        z = (methylated / coverage - mean) / np.sqrt(variance)
        return np.where(coverage >= 5, z, np.nan)

    def correlation(a, b):
        both = np.isfinite(a) & np.isfinite(b)
        return np.corrcoef(a[both], b[both])[0, 1]

    several = [i for i in range(len(k)) if (tissue == tissue[i]).sum() > 2]
    same = [correlation(*(residual(pair, i, [i]) for pair in halves)) for i in several]
    strangers = [
        correlation(residual((k, n), i, [i, j]), residual((k, n), j, [i, j]))
        for i in several for j in several if j < i and tissue[i] == tissue[j]
    ]  # fmt: skip
    assert len(strangers) == 49
    assert [np.median(strangers), max(strangers)] == pytest.approx([0.30, 0.71], abs=0.01)
    assert [min(same), np.median(same)] == pytest.approx([0.30, 0.86], abs=0.03)
    assert np.mean(np.array(same) < max(strangers)) == pytest.approx(0.25, abs=0.05)
