"""What another laboratory changes in samples is told from their tissues, and allowed for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deconv.atlas import build_atlas
from deconv.attenuation import find_loss
from deconv.benchmarks.scenarios import misconverted, shifted_batch
from deconv.estimator import AtlasEstimator
from deconv.evaluate import draw_mixtures, score
from deconv.inference import calibrate
from deconv.mixtures import MixingEngine, MixtureConfig
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.predictor import NetworkMethod
from deconv.protocol import on_atlas_scale
from deconv.simulate import simulate_atlas
from deconv.splits import split_by_donor
from deconv.stored import read_h5ad

CONFIG = MixtureConfig(designs={"several": 1.0}, depth=(10, 20))


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Donors at enough regions to tell a protocol from tissues."""
    path = tmp_path_factory.mktemp("protocol") / "atlas.h5ad"
    simulate_atlas(path, n_regions=6000, n_donors=5, depth=200, seed=3)
    return split_by_donor(read_h5ad(path), n_validation=1, n_test=1, seed=0)


@pytest.fixture(scope="module")
def atlas(split):
    return build_atlas(split.train)


@pytest.fixture(scope="module")
def estimator(atlas):
    return AtlasEstimator(atlas, read_effect=CONFIG.read_effect)


@pytest.fixture(scope="module")
def mixtures(atlas, split):
    return draw_mixtures(MixingEngine(split.test, atlas, CONFIG, seed=3, in_atlas=False), 60)


def corrected(estimator, counts):
    """Return what the correction makes of the methylated counts."""
    tensors = [
        torch.from_numpy(a.astype(np.float32)) for a in (counts.methylated, counts.coverage)
    ]
    return on_atlas_scale(estimator, *tensors, (0.0, 0.0)).numpy()


def test_samples_of_the_atlas_own_protocol_are_left_as_they_are(estimator, mixtures):
    untouched = (corrected(estimator, mixtures) == mixtures.methylated).all(axis=1)
    assert untouched.mean() > 0.85


@pytest.mark.parametrize(("gained", "lost"), [(0.04, 0), (0, 0.04), (0.05, 0.05)])
def test_counts_come_back_to_the_atlas_scale(estimator, mixtures, gained, lost):
    other = misconverted(mixtures, gained, lost, seed=0)
    before = (other.methylated - mixtures.methylated).mean(axis=0)
    after = (corrected(estimator, other) - mixtures.methylated).mean(axis=0)
    assert np.abs(after).mean() < 0.5 * np.abs(before).mean()


@pytest.fixture(scope="module")
def method(atlas, split):
    """A network as it starts, calibrated."""
    config = ModelConfig(hidden_size=32, intermediate_size=32)
    network = TwoStageNetwork(config, atlas, read_effect=CONFIG.read_effect)
    known = draw_mixtures(
        MixingEngine(split.validation, atlas, CONFIG, seed=4, in_atlas=False), 60
    )
    return NetworkMethod(network, atlas, calibration=calibrate(network, known))


@pytest.fixture(scope="module")
def plain(method):
    """The same, which takes the contrast of samples as it is."""
    calibration = replace(method.calibration, loss=None)
    return NetworkMethod(method.network, method.atlas, calibration=calibration)


def test_network_finds_the_same_tissues_by_another_protocol(method, mixtures):
    other = misconverted(mixtures, 0.01, 0.03, seed=0)
    own = score(method.predict(mixtures), mixtures)
    moved = score(method.predict(other), other)
    assert own["presence_f1"] > 0.97
    assert moved["presence_f1"] > own["presence_f1"] - 0.05
    assert moved["mae"] < 2 * own["mae"]


def test_regions_without_coverage_stay_without_counts(estimator, mixtures):
    other = misconverted(mixtures, 0, 0.1, seed=0)
    empty = other.coverage == 0
    assert empty.any()
    assert not corrected(estimator, other)[empty].any()


def test_answer_to_a_sample_does_not_depend_on_its_company(estimator, mixtures):
    other = misconverted(mixtures, 0, 0.04, seed=0)
    alone = corrected(estimator, other.take(range(1)))
    np.testing.assert_allclose(alone[0], corrected(estimator, other)[0], rtol=0, atol=1e-3)


def losses(estimator, counts):
    """Return what is found missing of the samples' contrast."""
    features, weight = estimator.features(*(
        torch.from_numpy(a.astype(np.float32)) for a in (counts.methylated, counts.coverage)
    ))  # fmt: skip
    return find_loss(*estimator.normal_equations(features @ estimator.initial_rows().T, weight))


def drawn_to_the_mean(counts, estimator, share):
    """Return samples of which a share of the observations is of the mean tissue."""
    rng = np.random.default_rng(0)
    replaced = rng.binomial(counts.coverage, share)
    kept = counts.methylated - rng.hypergeometric(
        counts.methylated, counts.coverage - counts.methylated, replaced
    )
    anew = rng.binomial(replaced, estimator.reference.double().numpy()[None])
    return replace(counts, methylated=(kept + anew).astype(counts.methylated.dtype))


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_lost_contrast_is_found(estimator, mixtures, share):
    own = losses(estimator, mixtures)
    found = losses(estimator, drawn_to_the_mean(mixtures, estimator, share))
    error = float(found.variance.mean().sqrt())
    assert float((found.size - own.size).mean()) == pytest.approx(share, abs=error)


def test_fewer_tissues_are_called_that_another_laboratory_only_seems_to_have(
    method, plain, atlas, split
):
    donors = shifted_batch(split.test, 0.7, seed=1)
    samples = draw_mixtures(MixingEngine(donors, atlas, CONFIG, seed=3, in_atlas=False), 60)
    ours, theirs = (score(m.predict(samples), samples) for m in (method, plain))
    assert ours["spurious_rate"] < 0.7 * theirs["spurious_rate"]
    assert ours["presence_recall"] > theirs["presence_recall"] - 0.02


def test_sample_with_its_contrast_keeps_its_answer(method, plain, mixtures):
    same = method.predict(mixtures).presence == plain.predict(mixtures).presence
    assert same.all(axis=1).mean() > 0.9
