"""The end of a study: the best trained in full beside the default, and what the test says."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from studies import runs_of

from deconv.benchmarks.bootstrap import Difference
from deconv.errors import ConfigError
from experiments.names import MODEL_NAME, PRODUCTION
from tuning.claims import Claims
from tuning.finals import Final, Finals, compare_finals
from tuning.finish import begin_finals, chosen
from tuning.parent import begin_parent
from tuning.status import knee
from tuning.trial_record import trial_folder
from tuning.worker import work


def test_best_is_trained_in_full_beside_the_default(begin, deconv):
    study = begin(
        budget={"trials": 2}, set=["training.num_epochs=1"],
        where={"kind": "local", "processes": 1, "threads": 1, "device": "cpu"},
        finish={"top": 1, "seeds": 2, "set": ["training.mixtures_per_epoch=16"]},
    )  # fmt: skip
    begin_parent(study)
    with pytest.raises(ConfigError, match="no trial is complete"):
        begin_finals(study)
    work(study.folder, device="cpu", threads=1)
    best = chosen(study)[0]

    status, said, error = deconv("tune", "finish", "study")
    assert status == 0, error
    finals = begin_finals(study)  # the same
    assert len(finals.trials()) == 4
    configs = [trial_folder(finals, n).config() for n in range(4)]
    assert [c.random_seed for c in configs] == [0, 0, 1, 1]
    assert {c.training.num_epochs for c in configs} == {3}  # those of the base
    assert {c.training.mixtures_per_epoch for c in configs} == {16}
    assert configs[0].loss.presence_weight == 1.0
    assert configs[1].loss.presence_weight == best.params["presence_weight"]
    assert configs[1].model.presence_threshold == best.params["threshold"]

    result = compare_finals(finals)
    default, tuned = result.finals
    assert default.against_default["mae"].value == 0
    frames = [pd.read_csv(trial_folder(finals, n).path / "summary_stats.csv") for n in range(4)]
    errors = [(f["predicted_proportion"] - f["true_proportion"]).abs().mean() for f in frames]
    assert tuned.test_mae == pytest.approx(np.mean([errors[1], errors[3]]))
    expected = np.mean([errors[1] - errors[0], errors[3] - errors[2]])
    assert tuned.against_default["mae"].value == pytest.approx(expected)
    assert frames[0]["true_proportion"].equals(frames[1]["true_proportion"])
    assert not frames[0]["true_proportion"].equals(frames[2]["true_proportion"])

    assert result.verdict() in " ".join(said.split())
    assert f"deconv promote {tuned.run}" in said
    assert MlflowClient().get_run(tuned.run).info.run_name.endswith("-0001")
    parent = runs_of(study)[None]
    assert parent.data.tags["final.run"] == tuned.run
    assert json.loads((study.folder / "finals.json").read_text())["winner"] == tuned.label


def test_winner_is_offered_to_the_registry_whose_gates_decide(begin, deconv):
    """The only candidate is the default itself, so that it is surely not worse."""
    study = begin(
        budget={"trials": 1}, set=["training.num_epochs=1"],
        space={"presence_weight": 1.0, "threshold": 0.5},
        where={"kind": "local", "processes": 1, "threads": 1, "device": "cpu"},
        finish={"seeds": 1, "set": ["training.num_epochs=1"]},
    )  # fmt: skip
    begin_parent(study)
    work(study.folder, device="cpu", threads=1)
    rules = "version: 2\nchampion: {confidence: 0.95, largest_tissue_loss: 0.5}\n"
    rules += "lineage: {tags: [], allow_changed_code: true}\ntest: {min_samples: 40}\n"
    Path("strict.yaml").write_text(rules + "metrics: {test/mae: {max: 0}}")
    Path("loose.yaml").write_text(rules + "metrics: {test/mae: {max: 0.5}}")
    status, said, error = deconv("tune", "finish", "study", "--promote", "--gates", "strict.yaml")
    assert (status, error) == (1, "")
    assert "no difference between trial 0 and the default is shown: +0.0000" in said
    assert "refused: test/mae" in said
    assert "not promoted: production stays as it was" in said
    status, said, error = deconv("tune", "finish", "study", "--promote", "--gates", "loose.yaml")
    assert status == 0, said + error
    version = MlflowClient().get_model_version_by_alias(MODEL_NAME, PRODUCTION)
    assert (
        version.run_id
        == json.loads((study.folder / "finals.json").read_text())["finals"][1]["run"]
    )


def test_worse_than_the_default_is_not_offered(begin, deconv, monkeypatch):
    study = begin(budget={"trials": 1})
    found = Difference(0.02, 0.01, 0.03, 0.001)
    default = Final("default", (), 0.1, 0.1, "a", {}, [])
    worse = Finals([default, Final("trial 0", (), 0.1, 0.1, "b", {"mae": found}, [])])
    assert worse.is_worse
    monkeypatch.setattr("tuning.finish.begin_finals", lambda study: _Finished())
    monkeypatch.setattr("tuning.finals.compare_finals", lambda finals: worse)
    begin_parent(study)
    status, said, _ = deconv("tune", "finish", "study", "--promote")
    assert status == 1
    assert "not offered to the registry: the default is better" in said
    status, _, error = deconv("tune", "finish", "study", "--gates", "gates.yaml")
    assert status == 2
    assert "go with --promote" in error


class _Finished:
    def is_finished(self):
        return True


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(-0.02, -0.01, "beats"), (0.01, 0.02, "is worse than"), (-0.01, 0.01, "no difference")],
)
def test_verdict_says_what_is_shown(low, high, words):
    found = Difference((low + high) / 2, low, high, 0.5)
    default = Final("default", (), 0.1, 0.1, "a", {}, [])
    tuned = Final("trial 3", (), 0.2, 0.1, "b", {"mae": found}, [])
    result = Finals([default, tuned])
    assert result.winner is tuned
    assert words in result.verdict()


def test_knee_is_nearest_to_the_ideal(begin):
    study = begin(objective={"kind": "two"}, budget={"trials": 5})
    claims = Claims(study)
    from optuna.trial import TrialState

    for values in ([0.0, 1.0], [0.2, 0.3], [1.0, 0.0], [0.9, 0.9], [0.5, 0.15]):
        claims.finish(claims.next(), TrialState.COMPLETE, values, {})
    from tuning.status import best_trials

    assert [t.number for t in best_trials(study)] == [0, 1, 4, 2]
    assert knee(best_trials(study))[0].number == 1
    assert knee([]) == []
