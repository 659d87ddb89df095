"""Promotion rules, as pure functions."""

import pytest

from experiments.gates import check_against_champion, check_limits, check_sparse, load_gates

GOOD = {
    "best/train/presence_accuracy": 0.97, "best/val/presence_accuracy": 0.96,
    "best/val/presence_balanced_accuracy": 0.95, "best/val/mae": 0.01,
    "test/presence_accuracy": 0.96, "test/presence_balanced_accuracy": 0.95,
    "test/presence_f1": 0.93, "test/mae": 0.01, "test/spurious_mass": 0.01,
    "test/prediction_ratio": 0.98, "val/loss_trend": 0.8,
}  # fmt: skip


def failed(metrics):
    return [v.rule for v in check_limits(metrics, load_gates()) if not v.passed]


def test_gates_cover_the_success_criteria_and_a_good_model_passes():
    assert set(load_gates()) == set(GOOD)
    assert failed(GOOD) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("best/train/presence_accuracy", 0.89), ("best/val/mae", 0.051),
        ("test/spurious_mass", 0.06), ("test/prediction_ratio", 0.8),
        ("test/prediction_ratio", 1.2), ("val/loss_trend", 1.1), ("test/mae", float("nan")),
    ],
)  # fmt: skip
def test_one_failure_is_named(name, value):
    assert failed({**GOOD, name: value}) == [name]


def test_model_that_calls_nothing_fails_although_its_accuracy_is_high():
    nothing = {**GOOD, "test/presence_balanced_accuracy": 0.5, "test/presence_f1": 0.0}
    assert failed(nothing) == ["test/presence_balanced_accuracy", "test/presence_f1"]


def test_unmeasured_metric_fails():
    metrics = {k: v for k, v in GOOD.items() if k != "test/mae"}
    assert failed(metrics) == ["test/mae"]
    (verdict,) = [v for v in check_limits(metrics, load_gates()) if not v.passed]
    assert verdict.reason == "not measured, at most 0.05 needed"


def test_only_two_stage_models_are_sparse():
    assert check_sparse({"model.use_two_stage": "True"}).passed
    assert not check_sparse({"model.use_two_stage": "False"}).passed
    assert not check_sparse({}).passed


@pytest.mark.parametrize(
    ("champion", "test_set", "passed"),
    [
        (None, None, True),
        ({"test/mae": 0.02}, "t1", True),
        ({"test/mae": 0.01}, "t1", False),
        ({"test/mae": 0.02}, "t2", False),
        ({}, "t1", False),
    ],
)
def test_challenger_must_beat_the_champion_on_the_same_test(champion, test_set, passed):
    verdict = check_against_champion(GOOD, "t1", champion, test_set)
    assert verdict.passed is passed, verdict.reason
