"""Laws of the two-stage network."""

import dataclasses

import numpy as np
import pytest
import torch

from deconv.counts import RegionCounts
from deconv.errors import ConfigError
from deconv.estimator import AtlasEstimator
from deconv.evaluate import draw_mixtures, score
from deconv.losses import LossConfig, loss_terms
from deconv.mixtures import MixingEngine
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.output import called, hard_proportions, soft_proportions
from deconv.posterior import spike_and_slab
from deconv.precision import products_in
from deconv.predictor import NetworkMethod

READ_EFFECT = 2.5
SMALL = {"hidden_size": 32, "intermediate_size": 64}


def network(atlas, seed=0, **settings):
    torch.manual_seed(seed)
    config = ModelConfig(**{**SMALL, **settings})
    return TwoStageNetwork(config, atlas, read_effect=READ_EFFECT).eval()


def trained(atlas, engine, n_steps=30, **settings):
    net = network(atlas, **settings).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(n_steps):
        batch = engine.batch(step, 64)
        loss = loss_terms(net(batch.methylated, batch.coverage), batch.proportions, LossConfig())
        optimizer.zero_grad()
        loss["loss"].backward()
        optimizer.step()
    return net.eval()


def test_full_size_network_has_27_8_million_parameters():
    rng = np.random.default_rng(0)
    from deconv.atlas import Atlas
    from deconv.regions import RegionSet

    n_regions = 51_089
    start = 10 * np.arange(n_regions)
    atlas = Atlas(
        tuple(f"t{i:02}" for i in range(22)),
        RegionSet(np.array(["chr1"] * n_regions), start, start + 5),
        rng.uniform(0.01, 0.99, (22, n_regions)).astype(np.float32),
        np.full(n_regions, 0.02, dtype=np.float32),
        np.ones(n_regions, dtype=np.float32),
        np.full(22, 4),
    )
    for start_at_atlas in (True, False):
        net = TwoStageNetwork(ModelConfig(atlas_start=start_at_atlas), atlas, read_effect=2.5)
        assert sum(p.numel() for p in net.parameters()) == pytest.approx(27.83e6, rel=1e-3)


@pytest.mark.parametrize("atlas_start", [True, False])
def test_absent_tissue_has_exactly_zero_and_the_rest_sums_to_one(atlas, engine, atlas_start):
    batch = engine.batch(0, 64)
    output = trained(atlas, engine, atlas_start=atlas_start)(batch.methylated, batch.coverage)
    call, proportions = called(output, 0.5), hard_proportions(output, 0.5)
    assert call.any(dim=1).all()
    assert not call.all()
    assert (proportions[~call] == 0).all()
    torch.testing.assert_close(proportions.sum(dim=1), torch.ones(64))
    torch.testing.assert_close(soft_proportions(output).sum(dim=1), torch.ones(64))


def test_most_probable_tissue_is_called_if_none_exceeds_the_threshold(atlas, engine):
    batch = engine.batch(0, 8)
    output = network(atlas)(batch.methylated, batch.coverage)
    low = output._replace(presence_logits=output.presence_logits - 100)
    call = called(low, 0.5)
    assert (call.sum(dim=1) == 1).all()
    assert torch.equal(call.int().argmax(dim=1), low.presence_logits.argmax(dim=1))
    assert (hard_proportions(low, 0.5).max(dim=1).values == 1).all()


@pytest.mark.parametrize("atlas_start", [True, False])
@pytest.mark.parametrize("term", ["mse_loss", "presence_loss", "sparsity_loss"])
def test_every_loss_term_moves_the_presence_head(atlas, engine, term, atlas_start):
    batch = engine.batch(0, 32)
    net = trained(atlas, engine, n_steps=2, atlas_start=atlas_start)
    net.zero_grad()
    loss_terms(net(batch.methylated, batch.coverage), batch.proportions, LossConfig())[
        term
    ].backward()
    for name in ("presence_head.weight", "projection.weight"):
        assert net.get_parameter(name).grad.abs().max() > 0, name


def test_network_learns_from_a_random_start(atlas, engine, unseen):
    mixtures = draw_mixtures(unseen, 200)
    start, end = (
        score(NetworkMethod(net, atlas).predict(mixtures), mixtures)
        for net in (
            network(atlas, atlas_start=False),
            trained(atlas, engine, n_steps=150, atlas_start=False),
        )
    )
    assert start["presence_balanced_accuracy"] < 0.65
    assert end["presence_balanced_accuracy"] > 0.85
    assert end["mae"] < 0.3 * start["mae"]


def test_normal_equations_are_weighted_least_squares_less_the_atlas_error(atlas, engine):
    """Against numpy: A' W A - noise and A' W x with the centred atlas and the weights."""
    batch = engine.batch(0, 4)
    estimator = AtlasEstimator(atlas, read_effect=READ_EFFECT)
    features, weight = estimator.features(batch.methylated, batch.coverage)
    gram, moment = estimator.normal_equations(features @ estimator.initial_rows().T, weight)
    mean = atlas.mean.astype(np.float64)
    centred = mean - mean.mean(axis=0)
    error = mean * (1 - mean) * atlas.rho / atlas.n_donors[:, None]
    centring = np.eye(len(mean)) - 1 / len(mean)
    for i in range(4):
        w = weight[i].double().numpy()
        n = batch.coverage[i].numpy()
        x = batch.methylated[i].numpy() / np.maximum(n, 1) - mean.mean(axis=0)
        expected = (centred * w) @ centred.T - centring @ np.diag(error @ w) @ centring
        held = np.trace(expected) / len(mean)
        np.testing.assert_allclose(gram[i].numpy(), expected + held, rtol=1e-3, atol=1e-3 * held)
        right = (centred * w) @ np.where(n > 0, x, 0)
        np.testing.assert_allclose(
            moment[i].numpy(), right + held, rtol=1e-3, atol=1e-3 * abs(right).max()
        )


@pytest.mark.parametrize("depth", [3.0, 1000.0])
def test_compiled_and_tensor_forms_of_the_features_agree(atlas, unseen, depth):
    config = unseen.config.model_copy(update={"depth": (depth, depth)})
    deep = MixingEngine(unseen._pool._pure, atlas, config, seed=0, in_atlas=False)
    batch = deep.batch(0, 21)
    batch.methylated[3] = batch.coverage[3] = 0  # nothing observed
    estimator = AtlasEstimator(atlas, read_effect=READ_EFFECT)
    compiled = estimator.features_compiled(batch.methylated, batch.coverage)
    tensors = estimator.features_tensors(batch.methylated, batch.coverage)
    for one, other in zip(compiled, tensors, strict=True):
        assert (one[3] == 0).all()
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_subtracting_the_atlas_error_removes_the_pull_to_equal_proportions(atlas, unseen):
    """What is left is the bias of the few donors here."""
    batch = unseen.batch(0, 1000)
    unknown = dataclasses.replace(atlas, n_donors=np.zeros_like(atlas.n_donors))
    bias = {}
    for name, reference in (("corrected", atlas), ("plain", unknown)):
        estimator = AtlasEstimator(reference, read_effect=READ_EFFECT)
        features, weight = estimator.features(batch.methylated, batch.coverage)
        gram, moment = estimator.normal_equations(features @ estimator.initial_rows().T, weight)
        error = torch.linalg.solve(gram, moment) - batch.proportions
        bias[name] = error[batch.proportions == 0].mean().item()
    assert bias["plain"] > 0.001
    assert abs(bias["corrected"]) < 0.8 * bias["plain"]


def test_standard_errors_are_calibrated_on_unseen_donors(atlas, unseen):
    batch = unseen.batch(0, 1000)
    estimator = AtlasEstimator(atlas, read_effect=READ_EFFECT)
    features, weight = estimator.features(batch.methylated, batch.coverage)
    gram, moment = estimator.normal_equations(features @ estimator.initial_rows().T, weight)
    known = spike_and_slab(gram, moment)
    z = (known.estimate - batch.proportions) / known.std_error
    assert z.std().item() == pytest.approx(1, abs=0.3)
    assert abs(z.mean().item()) < 0.15


def test_order_of_tissues_and_regions_changes_nothing(atlas, split, unseen):
    rng = np.random.default_rng(0)
    rows, columns = rng.permutation(len(atlas.tissues)), rng.permutation(len(atlas.regions))
    turned = dataclasses.replace(
        atlas,
        tissues=tuple(atlas.tissues[i] for i in rows),
        regions=atlas.regions.take(columns),
        mean=atlas.mean[rows][:, columns],
        rho=atlas.rho[columns],
        profile=atlas.profile[columns],
    )
    net, other = network(atlas, seed=1), network(turned, seed=2)
    with torch.no_grad():
        net.presence_head.weight.normal_()
        net.proportion_head.weight.normal_()
    saved = net.state_dict()
    n_tissues = len(rows)
    known = [block * n_tissues + row for block in range(3) for row in rows]
    n_inputs = saved["blocks.0.weight"].shape[1]
    hidden = torch.tensor([*known, *range(3 * n_tissues, n_inputs)])
    saved["atlas_correction"] = saved["atlas_correction"][rows][:, columns]
    saved["projection.weight"] = saved["projection.weight"][:, columns]
    saved["presence_scale"] = saved["presence_scale"][rows]
    saved["blocks.0.weight"] = saved["blocks.0.weight"][:, hidden]
    for head in ("presence_head", "proportion_head"):
        for part in ("weight", "bias"):
            saved[f"{head}.{part}"] = saved[f"{head}.{part}"][rows]
    other.load_state_dict(saved)
    mixtures = draw_mixtures(unseen, 20)
    expected = NetworkMethod(net, atlas).predict(mixtures)
    actual = NetworkMethod(other, turned).predict(mixtures)  # counts are matched by name
    np.testing.assert_allclose(actual.proportions, expected.proportions[:, rows], atol=1e-4)
    np.testing.assert_allclose(actual.presence, expected.presence[:, rows], atol=1e-3)


def test_region_without_coverage_changes_nothing(atlas, engine, unseen):
    net = trained(atlas, engine, n_steps=5)
    batch = unseen.batch(0, 16)
    hidden = torch.arange(0, len(atlas.regions), 3)
    coverage = batch.coverage.index_fill(1, hidden, 0)
    methylated = batch.methylated.index_fill(1, hidden, 0)
    before = net(methylated, coverage)
    with torch.no_grad():  # what the network knows of the region does not matter
        net.projection.weight[:, hidden] = 99.0
        net.atlas_correction[:, hidden] = -99.0
    for expected, actual in zip(before, net(methylated, coverage), strict=True):
        assert torch.equal(expected, actual)
    mixtures = draw_mixtures(unseen, 4)
    kept = atlas.regions.take(np.arange(1, len(atlas.regions)))
    without = mixtures.at_regions(kept)
    covered = RegionCounts(
        mixtures.methylated * (np.arange(len(atlas.regions)) > 0),
        mixtures.coverage * (np.arange(len(atlas.regions)) > 0),
        mixtures.regions,
        mixtures.samples,
    )
    method = NetworkMethod(net, atlas)
    np.testing.assert_array_equal(
        method.predict(without).proportions, method.predict(covered).proportions
    )


def test_sample_without_any_coverage_has_a_finite_output(atlas):
    nothing = torch.zeros(1, len(atlas.regions))
    output = network(atlas)(nothing, nothing)
    assert torch.isfinite(output.scores).all()
    assert torch.isfinite(output.presence_logits).all()


def test_single_stage_network_gives_every_tissue_some_mass(atlas, engine):
    batch = engine.batch(0, 16)
    output = network(atlas, use_two_stage=False)(batch.methylated, batch.coverage)
    assert output.presence_logits is None
    assert (hard_proportions(output, 0.5) > 0).all()
    assert set(loss_terms(output, batch.proportions, LossConfig())) == {"loss", "mse_loss"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_regions": 7}, "model.n_regions: the data are of another size; got 7; expected 400"),
        ({"num_classes": 22}, "model.num_classes: .* got 22; expected 6"),
        ({"hidden_size": 6}, "no room for the atlas rows"),
    ],
)
def test_size_that_does_not_fit_the_data_is_refused(atlas, settings, message):
    with pytest.raises(ConfigError, match=message):
        network(atlas, **settings)


def test_bfloat16_rounds_the_blocks_and_not_the_estimate(atlas, engine):
    batch = engine.batch(0, 64)
    network = TwoStageNetwork(ModelConfig(dropout=0), atlas, read_effect=2.5)
    outputs = {}
    for dtype in (torch.float32, torch.bfloat16):
        with products_in(dtype, torch.device("cpu")), torch.no_grad():
            outputs[dtype] = network(batch.methylated, batch.coverage)
    start = outputs.values()  # the heads of a new network add nothing to the estimate
    torch.testing.assert_close(*(o.scores for o in start), rtol=0, atol=0)
    torch.nn.init.normal_(network.proportion_head.weight, std=0.1)
    for dtype in (torch.float32, torch.bfloat16):
        with products_in(dtype, torch.device("cpu")), torch.no_grad():
            outputs[dtype] = network(batch.methylated, batch.coverage)
        assert outputs[dtype].scores.dtype == torch.float32
    exact, rounded = (o.scores for o in outputs.values())
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.2)
