"""Tests of deconv.metrics on cohorts small enough to check by hand."""

import math

import numpy as np
import pytest

from deconv.errors import MismatchError
from deconv.metrics import evaluate_predictions, limit_of_detection

P = np.array([[0.6, 0.4, 0.0], [0.0, 0.995, 0.005]])
Q = np.array([[0.5, 0.4, 0.1], [0.0, 1.0, 0.0]])


def test_every_metric_of_two_samples_agrees_with_arithmetic():
    # present: AB, B; called (q >= .01): ABC, B
    expected = {
        "mae": (0.1 + 0.1 + 0.005 + 0.005) / 6,
        "mse": (0.02 + 2 * 0.005**2) / 6,
        "rmse": math.sqrt((0.02 + 2 * 0.005**2) / 6),
        "presence_accuracy": 5 / 6,
        "presence_precision": 3 / 4,
        "presence_recall": 1.0,
        "presence_f1": 6 / 7,
        "presence_balanced_accuracy": (1 + 2 / 3) / 2,
        "spurious_mass": (0.1 + 0) / 2,
        "spurious_rate": 1 / 3,
        "prediction_ratio": (0.5 / 0.6 + 1 + 1 / 0.995) / 3,
        "exact_support": 1 / 2,
        "presence_auroc": 1.0,
        "presence_auprc": 1.0,
    }
    assert evaluate_predictions(Q, P) == pytest.approx(expected)


def test_calls_and_probabilities_of_the_method_take_precedence():
    presence = np.array([[0.2, 0.9, 0.8], [0.1, 0.9, 0.1]])
    metrics = evaluate_predictions(Q, P, call=presence > 0.5, presence=presence)
    assert metrics["presence_recall"] == pytest.approx(2 / 3)
    assert metrics["presence_precision"] == pytest.approx(2 / 3)
    # 3 present x 3 absent pairs: .2 loses to .8 and wins over .1 and .1
    assert metrics["presence_auroc"] == pytest.approx(8 / 9)


def test_calling_nothing_scores_high_accuracy_but_not_balanced():
    true = np.tile([0.25] * 4 + [0.0] * 18, (10, 1))
    metrics = evaluate_predictions(
        np.full(true.shape, 1 / 22), true, call=np.zeros(true.shape, bool)
    )
    assert metrics["presence_accuracy"] == pytest.approx(18 / 22)
    assert metrics["presence_balanced_accuracy"] == 0.5
    assert metrics["presence_f1"] == 0
    assert metrics["mae"] == pytest.approx(0.0744, abs=1e-4)
    assert "presence_precision" not in metrics


def test_undefined_metrics_are_left_out():
    metrics = evaluate_predictions(np.ones((2, 1)), np.ones((2, 1)))
    assert not {"presence_auroc", "spurious_rate", "presence_balanced_accuracy"} & set(metrics)


def test_other_shape_or_nan_is_refused():
    with pytest.raises(MismatchError, match="shapes differ"):
        evaluate_predictions(Q[:1], P)
    with pytest.raises(ValueError, match="1 predictions are not finite"):
        evaluate_predictions(np.where(Q == 0.1, np.nan, Q), P)


TRUE = np.repeat([0.0, 0.01, 0.05, 0.1], 20)  # 20 blanks, then 20 samples a level


def test_perfect_predictions_detect_the_lowest_level():
    assert limit_of_detection(TRUE, TRUE) == 0.01


def test_detection_must_hold_at_every_higher_level():
    predicted = TRUE.copy()
    predicted[TRUE == 0.05] = 0.0  # 1 % is seen, 5 % is missed
    assert limit_of_detection(predicted, TRUE) == 0.1


def test_limit_is_infinite_when_nothing_is_detected():
    assert limit_of_detection(np.zeros_like(TRUE), TRUE) == math.inf


@pytest.mark.parametrize(("n_missed", "expected"), [(1, 0.01), (2, 0.05)])
def test_sensitivity_is_a_share_of_the_level(n_missed, expected):
    predicted = TRUE.copy()
    predicted[20 : 20 + n_missed] = 0.0  # 19 of 20 seen is exactly 95 %
    assert limit_of_detection(predicted, TRUE) == expected


@pytest.mark.parametrize(("n_noisy", "expected"), [(1, 0.01), (2, 0.1)])
def test_blank_limit_is_an_observed_blank_not_an_interpolation(n_noisy, expected):
    predicted = TRUE.copy()
    predicted[:n_noisy] = 0.055  # linear interpolation would put the limit below 0.05
    assert limit_of_detection(predicted, TRUE, specificity=0.94) == expected


@pytest.mark.parametrize("true", [np.zeros(4), np.full(4, 0.1)])
def test_cohort_without_blanks_or_spikes_is_refused(true):
    with pytest.raises(ValueError, match="need blanks and spiked samples"):
        limit_of_detection(np.zeros(4), true)


def test_nan_prediction_is_refused():
    predicted = TRUE.copy()
    predicted[3] = np.nan
    with pytest.raises(ValueError, match="1 predictions are not finite"):
        limit_of_detection(predicted, TRUE)
