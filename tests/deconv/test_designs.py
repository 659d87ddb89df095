"""Each design draws what it says."""

import pytest
import torch

from deconv.designs import DESIGNS, SPIKE_LEVELS, draw_fractions
from deconv.errors import ConfigError

TISSUES = [f"t{i}" for i in range(10)]
BACKGROUND = ["t2", "t5"]
N = 2000


def draw(design, n=N, seed=0):
    return draw_fractions(
        {design: 1.0}, n, TISSUES, BACKGROUND, torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize("design", DESIGNS)
def test_fractions_sum_to_one_and_follow_the_seed(design):
    fractions = draw(design)
    torch.testing.assert_close(fractions.sum(dim=1), torch.ones(N))
    assert (fractions >= 0).all()
    assert torch.equal(fractions, draw(design))
    assert not torch.equal(fractions, draw(design, seed=1))


@pytest.mark.parametrize(
    ("design", "counts"), [("pure", {1}), ("two_tissues", {2}), ("several", {3, 4, 5})]
)
def test_number_of_tissues_and_that_each_is_drawn(design, counts):
    present = draw(design) > 0
    assert set(present.sum(dim=1).tolist()) == counts
    share = present.float().mean(dim=0) / present.float().mean()
    assert ((share > 0.8) & (share < 1.2)).all()


def test_two_tissues_range_from_half_and_half_to_four_to_one():
    major = draw("two_tissues").max(dim=1).values
    assert 0.5 <= major.min() < 0.51
    assert 0.79 < major.max() <= 0.8


def test_cfdna_is_mostly_background_with_two_to_six_others():
    fractions = draw("cfdna")
    main = fractions[:, [2, 5]].sum(dim=1)
    assert ((main >= 0.6) & (main <= 0.9)).all()
    others = torch.cat([fractions[:, :2], fractions[:, 3:5], fractions[:, 6:]], dim=1)
    assert set((others > 0).sum(dim=1).tolist()) == {2, 3, 4, 5, 6}


def test_titration_spikes_one_tissue_at_a_level():
    fractions = draw("titration")
    others = torch.cat([fractions[:, :2], fractions[:, 3:5], fractions[:, 6:]], dim=1)
    assert ((others > 0).sum(dim=1) <= 1).all()
    levels = sorted({round(v, 6) for v in others.sum(dim=1).tolist()})
    assert levels == pytest.approx(sorted(SPIKE_LEVELS))


def test_weights_share_a_batch_between_designs():
    generator = torch.Generator().manual_seed(0)
    weights = {"pure": 0.2, "several": 0.8}
    fractions = draw_fractions(weights, 4000, TISSUES, [], generator)
    assert ((fractions > 0).sum(dim=1) == 1).float().mean().item() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize(
    ("designs", "background", "message"),
    [
        ({"triple": 1.0}, [], "unknown design triple; expected pure, two_tissues"),
        ({}, [], "not usable"),
        ({"pure": -1.0}, [], "not usable"),
        ({"cfdna": 1.0}, [], "cfdna needs background tissues"),
        ({"cfdna": 1.0}, TISSUES, "and others"),
        ({"cfdna": 1.0}, ["blood"], "unknown background tissue blood"),
    ],
)
def test_impossible_designs_are_refused(designs, background, message):
    with pytest.raises(ConfigError, match=message):
        draw_fractions(designs, 1, TISSUES, background, torch.Generator())
