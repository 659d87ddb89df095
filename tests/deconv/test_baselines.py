"""Laws of the classical baselines, against slow and obvious versions of them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import nnls

from deconv.baselines import (
    BinomialEM,
    NonNegativeLeastSquares,
    RobustRegression,
    Thresholded,
    apply_threshold,
    best_threshold,
    choose_threshold,
)
from deconv.baselines.em import Observations, em_step
from deconv.baselines.least_squares import fit
from deconv.baselines.threshold import CANDIDATES
from deconv.errors import InputError
from deconv.evaluate import draw_mixtures, score
from deconv.predictor import Deconvolution


@pytest.fixture(scope="module")
def mixtures(unseen):
    return draw_mixtures(unseen, 40)


def with_unobserved(counts, lost):
    """Return the counts without the regions where ``lost`` is true."""
    return dataclasses.replace(
        counts,
        methylated=np.where(lost, 0, counts.methylated),
        coverage=np.where(lost, 0, counts.coverage),
    )


def whole_design_nnls(atlas, counts, weighted):
    """Least squares on the regions themselves, one sample after the other."""
    profiles = atlas.mean.T.astype(np.float64)
    rows = []
    for methylated, coverage in counts.rows():
        seen = coverage > 0
        weight = np.sqrt(coverage[seen]) if weighted else np.ones(seen.sum())
        beta = methylated[seen] / coverage[seen]
        amounts, _ = nnls(profiles[seen] * weight[:, None], beta * weight)
        rows.append(amounts / amounts.sum())
    return np.array(rows)


def marked_tissue(atlas):
    """Return the column of the tissue that differs most from the others, per region."""
    return np.abs(atlas.mean - np.median(atlas.mean, axis=0)).argmax(axis=0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("lost", ["nothing", "half", "markers of one tissue"])
def test_normal_equations_give_the_least_squares_of_the_whole_design(
    atlas, mixtures, weighted, lost
):
    n_regions = len(atlas.regions)
    columns = {
        "nothing": np.zeros(n_regions, dtype=bool),
        "half": np.random.default_rng(0).random(n_regions) < 0.5,
        "markers of one tissue": marked_tissue(atlas) == 2,
    }[lost]
    counts = with_unobserved(mixtures, columns)
    found = NonNegativeLeastSquares(atlas, weighted=weighted).predict(counts).proportions
    np.testing.assert_allclose(found, whole_design_nnls(atlas, counts, weighted), atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_fewer_regions_than_tissues_are_fitted_as_well_as_by_the_whole_design(
    atlas, mixtures, weighted
):
    """The proportions are not unique then, but how well they fit is."""
    counts = with_unobserved(mixtures, np.arange(len(atlas.regions)) >= 4)
    weight = counts.coverage if weighted else np.sign(counts.coverage)
    profiles = atlas.mean[:, :4].astype(np.float64)
    found = fit(atlas.mean, counts.methylated, counts.coverage, weight)
    for amounts, root, k, n in zip(
        found, np.sqrt(weight[:, :4]), counts.methylated, counts.coverage, strict=True
    ):
        beta = k[:4] / np.maximum(n[:4], 1)
        _, smallest = nnls(profiles.T * root[:, None], beta * root)
        assert (amounts >= 0).all()
        residual = np.linalg.norm((amounts @ profiles - beta) * root)
        assert residual == pytest.approx(smallest, abs=1e-5)


def test_tissues_that_no_region_tells_apart_do_not_disturb_the_others(atlas, mixtures):
    mean = atlas.mean.copy()
    mean[4] = mean[1]
    twins = dataclasses.replace(atlas, mean=mean)
    for weighted in (False, True):
        found = NonNegativeLeastSquares(twins, weighted=weighted).predict(mixtures).proportions
        expected = whole_design_nnls(twins, mixtures, weighted)
        both = [1, 4]
        np.testing.assert_allclose(
            found[:, both].sum(axis=1), expected[:, both].sum(axis=1), atol=1e-6
        )
        np.testing.assert_allclose(
            np.delete(found, both, 1), np.delete(expected, both, 1), atol=1e-6
        )


def test_robust_regression_resists_corrupted_regions(atlas, mixtures):
    """Every twentieth region is amplified and read wrongly; least squares believes it."""
    wrong = np.arange(len(atlas.regions)) % 20 == 0
    flipped = mixtures.coverage - mixtures.methylated
    corrupted = dataclasses.replace(
        mixtures,
        methylated=np.where(wrong, 5 * flipped, mixtures.methylated),
        coverage=np.where(wrong, 5 * mixtures.coverage, mixtures.coverage),
    )
    robust, weighted = RobustRegression(atlas), NonNegativeLeastSquares(atlas, weighted=True)
    clean = score(robust.predict(mixtures), mixtures)["mae"]
    assert score(robust.predict(corrupted), corrupted)["mae"] < 1.5 * clean
    assert score(weighted.predict(corrupted), corrupted)["mae"] > 3 * clean


def test_robust_regression_without_outliers_is_about_least_squares(atlas, mixtures):
    robust = RobustRegression(atlas).predict(mixtures).proportions
    weighted = NonNegativeLeastSquares(atlas, weighted=True).predict(mixtures).proportions
    assert np.abs(robust - weighted).mean() < 0.01
    assert np.abs(robust - weighted).max() > 0


def log_likelihood(proportions, atlas, counts):
    beta = proportions @ atlas.mean.astype(np.float64)
    unmethylated = counts.coverage - counts.methylated
    terms = counts.methylated * np.log(beta) + unmethylated * np.log(1 - beta)
    return terms.sum(axis=1)


def em_of_single_observations(profiles, methylated, coverage, n_steps):
    """EM as one would write it down: the tissue of origin of each observation in turn."""
    observations = [
        (region, state)
        for region, (k, n) in enumerate(zip(methylated, coverage, strict=True))
        for state in [1] * k + [0] * (n - k)
    ]
    proportions = np.full(len(profiles), 1 / len(profiles))
    for _ in range(n_steps):
        origin = np.zeros(len(profiles))
        for region, state in observations:
            chance = profiles[:, region] if state else 1 - profiles[:, region]
            origin += proportions * chance / (proportions @ chance)
        proportions = origin / len(observations)
    return proportions


def from_atlas(atlas, counts, proportions, depth):
    """Return noiseless counts of mixtures of the atlas' own profiles."""
    beta = proportions @ atlas.mean
    coverage = np.full(beta.shape, depth)
    return dataclasses.replace(
        counts,
        methylated=np.round(beta * depth).astype(np.int64),
        coverage=coverage,
        proportions=pd.DataFrame(
            proportions, index=counts.samples.index, columns=list(atlas.tissues)
        ),
    )


def without_tissue(atlas, name):
    keep = [i for i, tissue in enumerate(atlas.tissues) if tissue != name]
    return dataclasses.replace(
        atlas,
        tissues=tuple(atlas.tissues[i] for i in keep),
        mean=atlas.mean[keep],
        n_donors=atlas.n_donors[keep],
    )


def test_every_em_step_raises_the_likelihood(atlas, mixtures):
    profiles = torch.from_numpy(atlas.mean).double()
    counts = Observations.of(mixtures.methylated, mixtures.coverage)
    proportions = torch.full((len(mixtures), len(profiles)), 1 / len(profiles)).double()
    before = log_likelihood(proportions.numpy(), atlas, mixtures)
    for _ in range(30):
        proportions = em_step(proportions, profiles, counts)
        after = log_likelihood(proportions.numpy(), atlas, mixtures)
        assert (after >= before - 1e-7).all()
        before = after


def test_em_is_that_of_single_observations(make_counts):
    profiles = np.array([[0.9, 0.2, 0.6], [0.1, 0.7, 0.5]])
    tiny = make_counts([[3, 1, 2]], [[4, 5, 2]])
    expected = em_of_single_observations(profiles, *tiny.methylated, *tiny.coverage, n_steps=3)
    counts = Observations.of(tiny.methylated, tiny.coverage)
    proportions = torch.full((1, 2), 0.5, dtype=torch.float64)
    for _ in range(3):
        proportions = em_step(proportions, torch.from_numpy(profiles), counts)
    np.testing.assert_allclose(proportions[0].numpy(), expected, atol=1e-12)


def test_no_other_proportions_are_likelier_than_those_of_em(atlas, mixtures):
    """At the maximum a step towards any single tissue loses; the likelihood is concave."""
    found = BinomialEM(atlas).predict(mixtures).proportions
    best = log_likelihood(found, atlas, mixtures)
    per_observation = 1 / mixtures.coverage.sum(axis=1)
    for pure in np.eye(len(atlas.tissues)):
        towards = 0.99 * found + 0.01 * pure
        gain = (log_likelihood(towards, atlas, mixtures) - best) * per_observation
        assert gain.max() < 1e-6


def test_em_recovers_fractions_at_high_depth(atlas, mixtures):
    truth = mixtures.proportions.to_numpy()
    exact = from_atlas(atlas, mixtures, truth, depth=100_000)
    np.testing.assert_allclose(BinomialEM(atlas).predict(exact).proportions, truth, atol=2e-3)


@pytest.mark.parametrize("depth", [30, 3000])
def test_complete_mixtures_have_little_that_is_unknown(atlas, mixtures, depth):
    exact = from_atlas(atlas, mixtures, mixtures.proportions.to_numpy(), depth)
    result, unknown = BinomialEM(atlas, n_unknown=1).predict_with_unknown(exact)
    assert unknown.max() < 0.02
    np.testing.assert_allclose(result.proportions.sum(axis=1) + unknown, 1)
    assert score(result, exact)["mae"] < 0.01


def test_tissue_missing_from_the_atlas_is_found_as_unknown(atlas, mixtures):
    """Of samples with more of a tissue that the atlas lacks, more is unknown."""
    levels = np.repeat([0.0, 0.1, 0.2, 0.4], 10)
    others = mixtures.proportions.drop(columns="Liver").to_numpy()
    others = (others + 1e-3) / (others + 1e-3).sum(axis=1, keepdims=True)
    truth = np.insert((1 - levels[:, None]) * others, atlas.tissues.index("Liver"), levels, 1)
    planted = from_atlas(atlas, mixtures, truth, depth=30)
    method = BinomialEM(without_tissue(atlas, "Liver"), n_unknown=1)
    _, unknown = method.predict_with_unknown(planted)
    np.testing.assert_allclose(unknown, levels, atol=0.08)
    np.testing.assert_allclose(method.predict(planted).proportions, others, atol=0.08)


def test_unknown_component_must_be_one_or_none(atlas):
    with pytest.raises(InputError, match="0 or 1"):
        BinomialEM(atlas, n_unknown=2)


def fixed_result(proportions):
    tissues = tuple("ABCDEF"[: proportions.shape[1]])
    return Deconvolution(tissues, proportions, proportions >= 0.01)


class Fixed:
    """A method that says what it was told to."""

    def __init__(self, proportions):
        self.result = fixed_result(proportions)

    def predict(self, counts):
        return self.result


def test_what_is_below_the_threshold_is_shared_by_the_rest():
    result = apply_threshold(
        fixed_result(np.array([[0.5, 0.3, 0.2], [0.34, 0.33, 0.33], [0.2, 0.7, 0.1]])), 0.35
    )
    np.testing.assert_allclose(result.proportions, [[1, 0, 0], [1, 0, 0], [0, 1, 0]])
    kept = apply_threshold(fixed_result(np.array([[0.5, 0.3, 0.2]])), 0.3)
    np.testing.assert_allclose(kept.proportions, [[0.625, 0.375, 0]])
    np.testing.assert_array_equal(kept.call, [[True, True, False]])


def test_threshold_is_a_fraction(atlas):
    with pytest.raises(InputError, match="a threshold is a fraction"):
        Thresholded(NonNegativeLeastSquares(atlas), 1.0)


def planted_optimum(mixtures, low, high):
    """Return noise up to ``low`` where a tissue is absent, and ``high`` where it is there."""
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0, low, (40, 6))
    predicted[:, 0], predicted[:, 1] = high, 1 - high
    truth = np.zeros((40, 6))
    truth[:, :2] = high, 1 - high
    known = pd.DataFrame(truth, index=mixtures.samples.index, columns=list("ABCDEF"))
    return predicted, dataclasses.replace(mixtures, proportions=known)


@pytest.mark.parametrize(
    ("low", "high", "from_", "to"),
    [(0.02, 0.03, 0.019, 0.03), (0.002, 0.004, 0.0035, 0.004), (0.005, 0.04, 0.01, 0.01)],
)
def test_threshold_that_separates_is_found_and_the_nearest_to_one_percent_taken(
    mixtures, low, high, from_, to
):
    predicted, validation = planted_optimum(mixtures, low, high)
    best = choose_threshold(Fixed(predicted), validation, present_from=high / 2)
    assert from_ <= best.threshold <= to
    assert (
        score(best.predict(validation), validation, present_from=high / 2)["presence_accuracy"]
        == 1
    )


def test_chosen_threshold_makes_the_fewest_wrong_calls(atlas, mixtures):
    """The quick count over all candidates is that of applying each."""
    result = NonNegativeLeastSquares(atlas).predict(mixtures)

    def accuracy(threshold):
        return score(apply_threshold(result, threshold), mixtures)["presence_accuracy"]

    chosen = best_threshold(result, mixtures)
    assert accuracy(chosen) == max(accuracy(t) for t in CANDIDATES)
    assert accuracy(chosen) >= accuracy(0.01)
