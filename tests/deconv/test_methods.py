"""One contract for all deconvolution methods, the network and the baselines."""

import dataclasses

import numpy as np
import pytest

from deconv.baselines import Thresholded, baselines, run_baselines
from deconv.errors import InputError, MismatchError
from deconv.evaluate import draw_mixtures, score, summary_stats
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.predictor import NetworkMethod

NAMES = (
    "two_stage", "single_stage", "nnls", "weighted_nnls", "robust", "em", "em_unknown",
    "thresholded",
)  # fmt: skip


@pytest.fixture(scope="module")
def mixtures(unseen):
    return draw_mixtures(unseen, 60)


@pytest.fixture(params=NAMES)
def method(request, atlas):
    if request.param in ("two_stage", "single_stage"):
        config = ModelConfig(
            hidden_size=16, intermediate_size=16, use_two_stage=request.param == "two_stage"
        )
        return NetworkMethod(TwoStageNetwork(config, atlas, read_effect=2.5), atlas)
    methods = baselines(atlas)
    if request.param == "thresholded":
        return Thresholded(methods["weighted_nnls"], 0.005)
    return methods[request.param]


def test_proportions_are_fractions_that_sum_to_one(method, mixtures, atlas):
    result = method.predict(mixtures)
    assert result.tissues == atlas.tissues
    assert result.proportions.shape == result.call.shape == (60, len(atlas.tissues))
    assert (result.proportions >= 0).all()
    np.testing.assert_allclose(result.proportions.sum(axis=1), 1, atol=1e-5)


def test_mixtures_of_unseen_donors_are_found(method, mixtures):
    metrics = score(method.predict(mixtures), mixtures)
    assert metrics["mae"] < 0.03
    assert metrics["presence_recall"] > 0.9


def test_same_samples_give_the_same_result_alone_and_twice(method, mixtures):
    together, again = method.predict(mixtures), method.predict(mixtures)
    np.testing.assert_array_equal(together.proportions, again.proportions)
    alone = method.predict(mixtures.take([7]))
    np.testing.assert_allclose(alone.proportions[0], together.proportions[7], atol=1e-5)


def test_regions_are_matched_by_name(method, mixtures):
    order = np.random.default_rng(0).permutation(len(mixtures.regions))
    turned = mixtures.at_regions(mixtures.regions.take(order))
    np.testing.assert_array_equal(
        method.predict(turned).proportions, method.predict(mixtures).proportions
    )


def test_other_build_or_too_few_regions_are_refused(method, mixtures):
    other = dataclasses.replace(mixtures.regions, build="hg19")
    with pytest.raises(MismatchError, match="genome build"):
        method.predict(dataclasses.replace(mixtures, regions=other))
    few = mixtures.at_regions(mixtures.regions.take(np.arange(300)))
    with pytest.raises(MismatchError, match="300 of the 400 regions"):
        method.predict(few)


def test_sample_without_coverage_is_refused_by_name(method, mixtures):
    empty = np.arange(len(mixtures)) == 3
    silent = dataclasses.replace(
        mixtures,
        methylated=np.where(empty[:, None], 0, mixtures.methylated),
        coverage=np.where(empty[:, None], 0, mixtures.coverage),
    )
    with pytest.raises(InputError, match=r"sample mixture-3: 1 sample.* no coverage"):
        method.predict(silent)


def test_table_has_a_row_per_sample_and_tissue(method, mixtures):
    result = method.predict(mixtures)
    table = summary_stats(result, mixtures)
    assert len(table) == 60 * len(result.tissues)
    row = table[(table["sample"] == "mixture-5") & (table["tissue"] == "Liver")].iloc[0]
    column = result.tissues.index("Liver")
    assert row["predicted_proportion"] == result.proportions[5, column]
    assert row["true_proportion"] == mixtures.proportions.iloc[5]["Liver"]
    assert (row["call"] == "detected") == result.call[5, column]


def test_uncalled_tissues_of_the_two_stage_network_have_no_mass(atlas, mixtures):
    config = ModelConfig(hidden_size=16, intermediate_size=16)
    network = TwoStageNetwork(config, atlas, read_effect=2.5)
    result = NetworkMethod(network, atlas).predict(mixtures)
    assert (result.proportions[~result.call] == 0).all()
    assert (result.call == (result.presence > 0.5)).mean() > 0.99


def test_each_run_evaluates_the_first_two_baselines(atlas):
    assert list(baselines(atlas)) == ["nnls", "weighted_nnls", "robust", "em", "em_unknown"]
    assert list(run_baselines(atlas)) == ["nnls", "weighted_nnls"]


def test_weighted_least_squares_uses_the_coverage(atlas, mixtures):
    """A region of coverage 1 that contradicts the rest moves NNLS, and hardly weighted NNLS."""
    noisy = mixtures.methylated.copy()
    coverage = mixtures.coverage * 100
    noisy = noisy * 100
    for column in range(40):
        flipped = (noisy[:, column] < coverage[:, column] / 2).astype(np.int32)
        noisy[:, column], coverage[:, column] = flipped, 1
    changed = dataclasses.replace(mixtures, methylated=noisy, coverage=coverage)
    plain, weighted = (
        score(m.predict(changed), changed)["mae"] for m in run_baselines(atlas).values()
    )
    assert weighted < 0.5 * plain
