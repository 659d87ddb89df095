"""Calibration and certainty: figures on mixtures of donors that were not seen."""

import numpy as np
import pytest
from scipy.special import expit

from deconv.atlas import build_atlas
from deconv.calibrate import Calibration, fit_by_depth, fit_presence
from deconv.counts import RegionCounts
from deconv.errors import CheckpointError
from deconv.evaluate import draw_mixtures
from deconv.inference import calibrate
from deconv.mixtures import MixingEngine, MixtureConfig
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.predictor import NetworkMethod

CONFIG = MixtureConfig(
    designs={"several": 0.6, "cfdna": 0.4}, background=("Blood",), depth=(5, 60)
)


@pytest.fixture(scope="module")
def network(atlas):
    config = ModelConfig(hidden_size=16, intermediate_size=16)
    return TwoStageNetwork(config, atlas, read_effect=CONFIG.read_effect)


@pytest.fixture(scope="module")
def calibration(network, atlas, split):
    engine = MixingEngine(split.validation, atlas, CONFIG, seed=1, in_atlas=False)
    return calibrate(network, draw_mixtures(engine, 600))


@pytest.fixture(scope="module")
def mixtures(atlas, split):
    return draw_mixtures(MixingEngine(split.test, atlas, CONFIG, seed=2, in_atlas=False), 600)


@pytest.fixture(scope="module")
def result(network, atlas, calibration, mixtures):
    return NetworkMethod(network, atlas, calibration=calibration).predict(mixtures)


def test_platt_scaling_finds_a_planted_slope_and_offset():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (4000, 5))
    present = rng.random(logits.shape) < expit(0.5 * logits - 1)
    slope, offset, thresholds = fit_presence(logits, present, called_from=0.5)
    assert slope == pytest.approx(0.5, abs=0.03)
    assert offset == pytest.approx(-1, abs=0.1)
    assert thresholds == pytest.approx([0.5] * 5, abs=0.15)


def test_tissue_that_is_overcalled_gets_a_higher_threshold():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (3000, 6))
    shift = np.array([2.0, 0, 0, 0, 0, 0])
    present = rng.random(logits.shape) < expit(logits - shift)
    _, _, thresholds = fit_presence(logits, present, called_from=0.5)
    assert thresholds[0] > max(thresholds[1:]) + 0.05


def test_stated_threshold_says_what_a_false_call_costs():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (5000, 3))
    present = rng.random(logits.shape) < expit(logits)
    strict = fit_presence(logits, present, called_from=0.8)[2]
    assert strict == pytest.approx([0.8] * 3, abs=0.1)


def test_presence_that_never_varies_is_left_as_it_is():
    assert fit_presence(np.zeros((3, 2)), np.ones((3, 2), bool), called_from=0.4) == (
        1.0, 0.0, [0.4, 0.4],
    )  # fmt: skip


def test_width_follows_the_errors_at_each_depth():
    rng = np.random.default_rng(0)
    depth = np.exp(rng.uniform(0, 4, 4000))
    ratio = np.abs(rng.normal(size=(4000, 3))) * (1 + (depth > 20))[:, None]
    ratio[rng.random(ratio.shape) < 0.5] = np.nan
    found = Calibration(1.0, 0.0, [0.5], **fit_by_depth(depth, ratio, np.ones(4000)))
    shallow, deep = found.at("width", np.array([2.0, 50.0]))
    assert shallow == pytest.approx(1.04 * 1.96, abs=0.2)
    assert deep == pytest.approx(1.04 * 3.92, abs=0.4)


def test_intervals_contain_the_truth_and_the_proportion(result, mixtures):
    true, sure = mixtures.proportions.to_numpy(), result.certainty
    inside = (sure.low - 1e-9 <= true) & (true <= sure.high + 1e-9)
    # One test donor a tissue here: the rate is not exact. The benchmark measures it.
    assert 0.88 < inside[true >= 0.01].mean() <= 1
    assert inside[true == 0].mean() > 0.95
    assert (sure.low <= result.proportions + 1e-6).all()
    assert (sure.high >= result.proportions - 1e-6).all()
    assert (sure.high - sure.low).mean() < 0.1


def test_probabilities_are_those_of_presence(result, mixtures):
    present = mixtures.proportions.to_numpy() >= 0.01
    bins = np.clip((10 * result.presence).astype(int), 0, 9)
    error = sum(
        abs(present[bins == b].mean() - result.presence[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    )
    assert error < 0.02


def test_tissue_at_its_limit_of_detection_is_called(network, atlas, calibration, split):
    """Of mixtures with more of a tissue than its limit there, hardly any is missed."""
    spiked = MixtureConfig(
        designs={"titration": 1.0}, background=("Blood",), depth=(20, 20),
        missing_regions=(0, 0),
    )  # fmt: skip
    samples = draw_mixtures(MixingEngine(split.test, atlas, spiked, seed=5, in_atlas=False), 600)
    result = NetworkMethod(network, atlas, calibration=calibration).predict(samples)
    true, limit = samples.proportions.to_numpy(), result.certainty.limit_of_detection
    above = (true >= limit) & (true < 0.5)
    assert above.sum() > 50
    assert result.call[above].mean() > 0.95


def test_tissue_whose_markers_are_not_covered_is_not_assessable(
    network, atlas, calibration, mixtures
):
    tissue = atlas.tissues.index("Liver")
    others = np.delete(atlas.mean, tissue, axis=0)
    marks = np.abs(atlas.mean[tissue] - np.median(others, axis=0)) > 0.02
    blind = RegionCounts(
        np.where(marks, 0, mixtures.methylated), np.where(marks, 0, mixtures.coverage),
        mixtures.regions, mixtures.samples,
    )  # fmt: skip
    result = NetworkMethod(network, atlas, calibration=calibration).predict(blind)
    sure = result.certainty
    assert sure.assessable[:, tissue].mean() < 0.25
    assert sure.assessable[:, atlas.tissues.index("Blood")].mean() > 0.5
    table = result.table(mixtures.samples.index)
    said = table.loc[table["tissue"] == "Liver", "call"].to_numpy()
    silent = ~sure.assessable[:, tissue] & ~result.call[:, tissue]
    assert silent.sum() > 100
    assert set(said[silent]) == {"not assessable"}
    assert "not assessable" not in set(said[~silent])


def test_unknown_tissue_is_noticed_and_complete_mixtures_are_not(pure, split, mixtures, result):
    """An atlas without Liver, samples with a fifth of it."""
    assert result.certainty.out_of_atlas.mean() < 0.01
    known = split.train.take(np.flatnonzero(split.train.samples["tissue"] != "Liver"))
    atlas = build_atlas(known)
    network = TwoStageNetwork(
        ModelConfig(hidden_size=16, intermediate_size=16), atlas, read_effect=CONFIG.read_effect
    )
    side = split.validation.take(np.flatnonzero(split.validation.samples["tissue"] != "Liver"))
    calibration = calibrate(
        network, draw_mixtures(MixingEngine(side, atlas, CONFIG, seed=1, in_atlas=False), 600)
    )
    method = NetworkMethod(network, atlas, calibration=calibration)
    sure = method.predict(mixtures).certainty
    liver = mixtures.proportions["Liver"].to_numpy()
    assert (sure.out_of_atlas[liver >= 0.2] > 0).mean() > 0.8
    assert (sure.out_of_atlas[liver == 0] > 0).mean() < 0.2
    predicted = method.predict(mixtures)
    np.testing.assert_allclose(predicted.proportions.sum(axis=1), 1 - sure.out_of_atlas, atol=1e-5)


def test_saved_calibration_is_the_same_and_a_damaged_one_refused(calibration, atlas):
    saved = calibration.to_dict()
    assert Calibration.from_dict(saved, len(atlas.tissues)) == calibration
    for damaged in (
        {**saved, "thresholds": saved["thresholds"][1:]},
        {**saved, "width": []},
        {**saved, "slope": -1.0},
        {k: v for k, v in saved.items() if k != "depth"},
    ):
        with pytest.raises(CheckpointError):
            Calibration.from_dict(damaged, len(atlas.tissues))
