"""Promotion rules, as pure functions."""

import pytest

from deconv.benchmarks.bootstrap import Difference
from deconv.errors import ConfigError
from experiments.gates import (
    SampleRule,
    check_against_champion,
    check_leakage,
    check_limits,
    check_lineage,
    check_samples,
    check_sparse,
    check_tissues,
    load_policy,
)

GOOD = {
    "best/train/presence_accuracy": 0.97, "best/val/presence_accuracy": 0.96,
    "best/val/presence_balanced_accuracy": 0.95, "best/val/mae": 0.01,
    "test/presence_accuracy": 0.96, "test/presence_balanced_accuracy": 0.95,
    "test/presence_f1": 0.93, "test/mae": 0.01, "test/spurious_mass": 0.01,
    "test/prediction_ratio": 0.98, "val/loss_trend": 0.8, "test/interval_coverage": 0.95,
    "test/calibration_error": 0.01,
}  # fmt: skip


def failed(metrics):
    return [v.rule for v in check_limits(metrics, load_policy().metrics) if not v.passed]


def test_gates_cover_the_success_criteria_and_a_good_model_passes():
    assert set(load_policy().metrics) == set(GOOD)
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
    (verdict,) = [v for v in check_limits(metrics, load_policy().metrics) if not v.passed]
    assert verdict.reason == "not measured, at most 0.05 needed"


def test_only_two_stage_models_are_sparse():
    assert check_sparse({"model.use_two_stage": "True"}).passed
    assert not check_sparse({"model.use_two_stage": "False"}).passed
    assert not check_sparse({}).passed


@pytest.mark.parametrize(
    ("value", "p_value", "passed"),
    [(-0.01, 0.002, True), (-0.01, 0.2, False), (0.01, 0.002, False), (0.0, 1.0, False)],
)
def test_challenger_must_beat_the_champion_with_confidence(value, p_value, passed):
    verdict = check_against_champion(
        Difference(value, value - 0.01, value + 0.01, p_value), load_policy().champion
    )
    assert verdict.passed is passed, verdict.reason
    assert f"mae {value:+.3g}" in verdict.reason


def test_first_champion_needs_no_other():
    rule = load_policy().champion
    assert check_against_champion(None, rule).passed
    assert check_tissues({}, rule).passed


def test_tissue_that_got_much_worse_is_named():
    rule = load_policy().champion
    assert check_tissues({"Liver": rule.largest_tissue_loss, "Lung": -0.01}, rule).passed
    verdict = check_tissues({"Liver": 0.02, "Lung": -0.03}, rule)
    assert not verdict.passed
    assert verdict.reason == "Liver has most: +0.02, at most 0.005 allowed"


KNOWN = {
    "git.commit": "a" * 40, "git.dirty": "false", "data.sha256": "d", "atlas.sha256": "e",
    "version.deconv": "0.1.0",
}  # fmt: skip
NO_GIT = {"git.commit": "unknown", "git.dirty": "unknown"}


@pytest.mark.parametrize(
    ("changes", "passed", "reason"),
    [
        ({}, True, "commit aaaaaaaaaaaa"),
        ({"git.dirty": "true"}, False, "commit aaaaaaaaaaaa with changes that were not committed"),
        (NO_GIT | {"code.release": "true"}, True, "release 0.1.0"),
        (NO_GIT | {"code.release": "no git"}, False, "release 0.1.0 is not certain: no git"),
        (
            NO_GIT,
            False,
            "release 0.1.0 is not certain: it was not recorded whether it was changed",
        ),
        ({"data.sha256": "unknown"}, False, "not known: data.sha256"),
        ({"git.dirty": "unknown"}, False, "not known: git.dirty"),
    ],
)
def test_lineage(changes, passed, reason):
    verdict = check_lineage({**KNOWN, **changes}, load_policy().lineage)
    assert (verdict.passed, verdict.reason) == (passed, reason)


def test_hashes_of_the_run_must_be_those_of_its_model():
    rule, own = load_policy().lineage, {"data.sha256": "d", "atlas.sha256": "e"}
    assert check_lineage(KNOWN, rule, of_model=own).passed
    verdict = check_lineage({**KNOWN, "atlas.sha256": "f"}, rule, of_model=own)
    assert (verdict.passed, verdict.reason) == (
        False, "atlas.sha256 of the run are not the model's",
    )  # fmt: skip


def test_changed_code_can_be_allowed():
    rule = load_policy().lineage
    assert check_lineage({**KNOWN, "git.dirty": "true"}, rule, allow_changed_code=True).passed


def test_samples_that_decide_are_many_and_may_be_named():
    rule = load_policy().test
    assert (rule.min_samples, rule.sha256) == (100, None)
    assert check_samples(100, "a" * 16, rule).passed
    few = check_samples(99, "a" * 16, rule)
    assert (few.passed, few.reason) == (
        False, "99 samples (aaaaaaaaaaaaaaaa), at least 100 needed",
    )  # fmt: skip
    pinned = SampleRule(min_samples=10, sha256="b" * 64)
    assert check_samples(10, "b" * 16, pinned).passed
    assert not check_samples(9, "b" * 16, pinned).passed
    other = check_samples(10, "a" * 16, pinned)
    assert (other.passed, other.reason) == (
        False, "aaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbb needed: --benchmark FILE",
    )  # fmt: skip


def test_donor_of_the_test_that_was_trained_on_is_named():
    assert check_leakage(["a", "b"], ["c"]).passed
    verdict = check_leakage(["a", "b"], ["b", "c"])
    assert (verdict.passed, verdict.reason) == (
        False, "1 of 2 donors of the test were trained on: b",
    )  # fmt: skip
    assert check_leakage(None, ["c"]).reason == "the donors of the model are not known"
    assert not check_leakage(["a"], None).passed


REST = "version: 2\nchampion: {confidence: 0.95, largest_tissue_loss: 0.01}\n"
REST += "lineage: {tags: [], allow_changed_code: false}\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "not a promotion policy; expected version, metrics"),
        ("a: [", "not a promotion policy; got while parsing"),
        ("version: 1\ngates: {}\n", "unknown key gates (and 4 more); expected test?"),
        (REST + "metrics: {}\n", "metrics: Dictionary should have at least 1 item"),
        (REST + "metrics: {test/mae: {}}\n", "metrics.test/mae: a limit needs min or max"),
        (REST + "metrics: {test/mae: {mx: 1}}\n", "unknown key metrics.test/mae.mx"),
        (REST + "metrics: {test/mae: {max: 1}}\ntests: {}\n", "unknown key tests; expected test?"),
        (REST + "metrics: {a: {max: 1}}\ntest: {min: 1}\n", "unknown key test.min; expected min_"),
        (REST + "metrics: {a: {max: 1}, a: {max: 2}}\n", "the key a is there twice"),
        (REST + "metrics: {a: {max: 1}}\nversion: 2\n", "the key version is there twice"),
        ("version: 2\nmetrics: {a: {max: 1}}\n", "champion is missing (and 1 more)"),
    ],
    ids=["list", "no YAML", "old", "empty", "no limit", "typo in a limit", "typo", "typo within",
         "metric twice", "section twice", "missing"],
)  # fmt: skip
def test_file_that_is_no_policy_is_refused_in_a_line(tmp_path, text, reason):
    (tmp_path / "gates.yaml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_policy(tmp_path / "gates.yaml")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "http" not in str(refused.value)


def test_policy_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not a promotion policy"):
        load_policy(tmp_path / "absent.yaml")
