"""Scenarios on real data: figures checked by hand, and the published ones reproduced."""

import numpy as np
import pytest

from deconv.baselines import baselines
from deconv.benchmarks.metdecode import ORIGINS, TUMOURS, metdecode_rows, metdecode_scores
from deconv.benchmarks.real import MIXTURES, meth_atlas_scores, uxm_scores
from deconv.errors import InputError, MismatchError
from deconv.predictor import Deconvolution

NAMES = ("nnls", "weighted_nnls")
TRUE = np.array([0.001, 0.001, 0.01, 0.03, 0.05, 0.05])
ORIGIN = ["Br", "Ov", "Br", "Cer", "Colo", "Br"]
LARGEST = ["OV", "OV", "OV", "CEAD", "READ", "CESC"]


class Uniform:
    """Gives every tissue the same fraction."""

    def __init__(self, atlas):
        self.tissues = atlas.tissues

    def predict(self, counts):
        share = np.full((len(counts), len(self.tissues)), 1 / len(self.tissues))
        return Deconvolution(self.tissues, share, share >= 0.01)


def methods(atlas):
    chosen = baselines(atlas)
    return {**{name: chosen[name] for name in NAMES}, "uniform": Uniform(atlas)}


def by_method(rows, sample=""):
    return {row["method"]: row for row in rows if row["scenario"].endswith(sample)}


def test_dilution_scores_are_those_worked_out_by_hand():
    fraction = np.array([0.0, 0.02, 0.01, 0.05, 0.03, 0.05])
    scores = metdecode_scores(fraction, TRUE, largest=LARGEST, origin=ORIGIN)
    assert scores == {
        "mae": pytest.approx((0.001 + 0.019 + 0 + 0.02 + 0.02 + 0) / 6),
        "false_call_rate": 0.5,
        "auroc": pytest.approx(7 / 8),  # of 4 x 2 pairs, one is in the wrong order
        "origin_rate": pytest.approx(2 / 3),  # 1 % is too little to be asked
        "origin_rate_Br": 0.0,
        "origin_rate_Cer": 1.0,
        "origin_rate_Colo": 1.0,
        "read_as_Br": pytest.approx(1.0),
        "read_as_Cer": pytest.approx(5 / 3),
        "read_as_Colo": pytest.approx(0.6),
        "mean_call_0.1%": pytest.approx(0.01),
        "mean_call_1%": pytest.approx(0.01),
        "mean_call_3%": pytest.approx(0.05),
        "mean_call_5%": pytest.approx(0.04),
    }


def test_dilution_scores_of_the_truth_are_perfect():
    right = [ORIGINS[o][0] for o in ORIGIN]
    scores = metdecode_scores(TRUE, TRUE, largest=right, origin=ORIGIN)
    assert (scores["mae"], scores["false_call_rate"]) == (0, 0)
    assert (scores["auroc"], scores["origin_rate"]) == (1, 1)


def test_arguments_of_other_lengths_are_refused():
    with pytest.raises(MismatchError, match="differ in length"):
        metdecode_scores(TRUE, TRUE, largest=LARGEST[:5], origin=ORIGIN)


def test_folder_without_dilutions_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        metdecode_rows(tmp_path, methods)


def test_dilutions_give_a_row_per_method(shared_data):
    rows = by_method(metdecode_rows(shared_data, methods))
    assert set(rows) == {*NAMES, "uniform", "oracle"}
    levels = {k for k in rows["nnls"] if k.startswith("mean_call")}
    assert len(levels) == 12
    # Uniform: 6 of 13 types are tumours, in every sample.
    assert rows["uniform"]["mean_call_0.1%"] == pytest.approx(6 / 13)
    assert rows["uniform"]["auroc"] == 0.5
    assert rows["uniform"]["false_call_rate"] == 1
    assert len(TUMOURS) == 6
    for name in NAMES:
        assert 0.05 < rows[name]["mae"] < 0.08
        assert rows[name]["auroc"] > 0.8
        assert rows[name]["origin_rate"] > 0.5
    assert rows["oracle"]["origin_rate"] > 0.99
    assert rows["oracle"]["mae"] < rows["nnls"]["mae"]


def test_known_errors_of_least_squares_are_reproduced(shared_data):
    rows = by_method(metdecode_rows(shared_data, methods, summed=True))
    assert rows["nnls"]["mae"] == pytest.approx(0.0557, abs=1e-4)
    assert rows["weighted_nnls"]["mae"] == pytest.approx(0.0694, abs=1e-4)


def test_published_figures_of_uxm_are_reproduced(shared_data):
    rows = uxm_scores(shared_data, methods)
    assert len(rows) == 8
    liver, lung = (by_method(rows, s)["uxm_nnls"] for s in ("Liver_STL011", "Lung_STL002"))
    assert liver["Liver-Hep"] == pytest.approx(0.592, abs=0.01)
    assert liver["Endothel"] == pytest.approx(0.164, abs=0.01)
    assert (liver["largest"], liver["is_largest"]) == ("Liver-Hep", True)
    assert lung["Lung-Ep-Alveo"] == pytest.approx(0.244, abs=0.01)
    assert lung["Endothel"] == pytest.approx(0.341, abs=0.01)
    assert lung["Blood-Mono+Macro"] == pytest.approx(0.148, abs=0.01)
    assert (lung["largest"], lung["is_largest"]) == ("Endothel", False)
    assert lung["is_largest_specific"]


def test_array_mixtures_without_noise_are_found(shared_data):
    rows = by_method(meth_atlas_scores(shared_data, methods))
    for name in NAMES:
        assert rows[name]["all_right"], rows[name]
        assert rows[name]["largest_error_points"] < 1
    worst = rows["uniform"]["largest_error_points"]
    assert worst == pytest.approx(100 * (0.9 - 1 / 25))
    assert not rows["uniform"]["all_right"]
    assert all(sum(truth.values()) == pytest.approx(1) for truth in MIXTURES.values())
    assert {k for k in rows["uniform"] if k.startswith("error_points_")} == {
        f"error_points_{m}" for m in MIXTURES
    }
