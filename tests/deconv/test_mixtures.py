"""Mixtures are drawn: counts with the mean and noise of sequencing, fixed by their index."""

import dataclasses

import numpy as np
import pytest
import torch

from deconv.errors import MismatchError
from deconv.evaluate import draw_mixtures
from deconv.mixtures import MixingEngine


def test_batch_depends_on_seed_and_index_alone(engine, split, atlas, mixture_config):
    again = MixingEngine(split.train, atlas, mixture_config, seed=1, in_atlas=True)
    first, other = engine.batch(7, 16), again.batch(7, 16)
    torch.manual_seed(123)
    for name in ("methylated", "coverage", "proportions"):
        assert torch.equal(getattr(first, name), getattr(other, name))
    assert not torch.equal(first.coverage, engine.batch(8, 16).coverage)
    reseeded = MixingEngine(split.train, atlas, mixture_config, seed=2, in_atlas=True)
    assert not torch.equal(first.coverage, reseeded.batch(7, 16).coverage)


@pytest.mark.parametrize("depth", [3.0, 30.0, 1000.0])
def test_compiled_and_tensor_forms_draw_the_same(unseen, mixture_config, depth):
    """Up to a number at the edge of a table row, which the order of a sum may move."""
    config = fixed(mixture_config, depth=(depth, depth))
    engine = MixingEngine(unseen._pool._pure, unseen.atlas, config, seed=0, in_atlas=False)
    expected, profiles = engine.expected(3, 200), engine._pool.at(3)
    compiled = engine._reads.draw_compiled(expected, profiles.beta)
    tensors = engine._reads.draw_tensors(expected, profiles.beta)
    for one, other in zip(compiled, tensors, strict=True):
        assert one.mean() > 0
        assert (one != other).float().mean() < 2e-5
        assert (one - other).abs().max() <= 5


def test_rows_of_a_batch_are_those_of_the_whole(engine):
    whole, part = engine.batch(5, 48), engine.batch(5, 48, slice(17, 40))
    assert torch.equal(part.coverage, whole.coverage[17:40])
    assert torch.equal(part.proportions, whole.proportions[17:40])


def test_counts_are_counts(engine):
    batch = engine.batch(0, 64)
    assert (batch.methylated >= 0).all()
    assert (batch.methylated <= batch.coverage).all()
    assert torch.equal(batch.coverage, batch.coverage.round())
    torch.testing.assert_close(batch.proportions.sum(dim=1), torch.ones(64))


def fixed(config, **changes):
    return config.model_copy(update={"missing_regions": (0.0, 0.0), **changes})


def test_depth_and_missing_regions_are_as_asked(split, atlas, mixture_config):
    config = fixed(mixture_config, depth=(20.0, 20.0))
    deep = MixingEngine(split.test, atlas, config, seed=0, in_atlas=False).batch(0, 512)
    assert deep.coverage.mean().item() == pytest.approx(20, rel=0.02)
    torch.testing.assert_close(
        deep.coverage.mean(dim=0) / 20, torch.from_numpy(atlas.profile), rtol=0.3, atol=0.1
    )
    config = fixed(mixture_config, depth=(500.0, 500.0), missing_regions=(0.3, 0.3))
    holes = MixingEngine(split.test, atlas, config, seed=0, in_atlas=False).batch(0, 512)
    often = torch.from_numpy(atlas.profile) > 0.3
    assert (holes.coverage[:, often] == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_mean_is_the_mixture_of_the_donors_and_noise_that_of_reads(split, atlas, mixture_config):
    config = fixed(mixture_config, depth=(40.0, 40.0), designs={"two_tissues": 1.0})
    engine = MixingEngine(split.test, atlas, config, seed=0, in_atlas=False)  # one donor each
    batch = engine.batch(0, 2000)
    beta = split.test.beta[np.argsort(split.test.samples["tissue"].to_numpy())]
    expected = batch.proportions.numpy() @ np.nan_to_num(beta)
    coverage = batch.coverage.numpy()
    seen = (coverage > 20) & (expected > 0.2) & (expected < 0.8)
    difference = (batch.methylated.numpy() / np.maximum(coverage, 1) - expected)[seen]
    assert abs(difference.mean()) < 0.002
    variance = (expected * (1 - expected) / np.maximum(coverage, 1))[seen]
    assert np.mean(difference**2 / variance) == pytest.approx(config.read_effect, rel=0.05)


def test_few_reads_have_the_beta_value_of_many(split, atlas, mixture_config):
    """Reads count as 2.5 observations: rounding those must not favour either state."""
    config = fixed(mixture_config, depth=(2.5, 2.5), designs={"pure": 1.0})
    batch = MixingEngine(split.test, atlas, config, seed=0, in_atlas=False).batch(0, 4000)
    beta = split.test.beta[np.argsort(split.test.samples["tissue"].to_numpy())]
    expected = torch.from_numpy(np.nan_to_num(beta))[batch.proportions.argmax(dim=1)]
    excess = (batch.methylated - batch.coverage * expected).sum(dim=1)
    share = excess.sum() / batch.coverage.sum()
    assert abs(share.item()) < 0.0015


def test_donors_of_the_atlas_are_widened_to_unseen_ones(split, atlas, mixture_config):
    """Against the means, the spread of training donors becomes that of held-out ones."""

    def spread(counts, in_atlas):
        engine = MixingEngine(counts, atlas, mixture_config, seed=0, in_atlas=in_atlas)
        of_tissue = np.sort([atlas.tissues.index(t) for t in counts.samples["tissue"]])
        held = engine._pool.at(0)
        known = atlas.mean if held.estimator is None else held.estimator.mean.numpy()
        return float(np.mean((held.beta.numpy() - known[of_tissue]) ** 2))

    unseen = spread(split.test, False)
    assert spread(split.train, False) < 0.7 * unseen
    assert spread(split.train, True) == pytest.approx(unseen, rel=0.2)


def test_evaluation_set_is_fixed_and_names_its_truth(unseen):
    mixtures = draw_mixtures(unseen, 70)
    assert mixtures.content_hash == draw_mixtures(unseen, 70).content_hash
    assert draw_mixtures(unseen, 10).proportions.equals(mixtures.proportions.iloc[:10])
    assert list(mixtures.proportions.columns) == list(unseen.atlas.tissues)


def test_samples_that_do_not_fit_the_atlas_are_refused(split, atlas, mixture_config):
    few = split.test.take(range(len(split.test) - 1))
    with pytest.raises(MismatchError, match="tissues differ from the atlas"):
        MixingEngine(few, atlas, mixture_config, seed=0, in_atlas=False)
    regions = atlas.regions.take(np.arange(len(atlas.regions))[::-1])
    turned = dataclasses.replace(atlas, regions=regions)
    with pytest.raises(MismatchError, match="other regions"):
        MixingEngine(split.test, turned, mixture_config, seed=0, in_atlas=False)
