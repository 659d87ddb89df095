"""Runs ranked by `deconv leaderboard`, and the labels by which they are found."""

import json

import pytest
from mlflow.tracking import MlflowClient

from experiments.config import load_config
from experiments.labels import phase
from experiments.metric_names import best_of, show, smaller_is_better


def board(deconv, *arguments):
    status, output, error = deconv("leaderboard", "--json", *arguments)
    assert (status, error) == (0, "")
    return json.loads(output)


def names(rows):
    return [row["name"].split("-")[0] for row in rows]


def test_finished_runs_are_ranked_by_the_metric_asked_for(runs, deconv):
    for metric in ("best/val/mae", "test/mae", "val/loss"):
        rows = board(deconv, "--metric", metric)
        values = [row["metrics"][metric] for row in rows]
        assert values == sorted(values)
        assert len(values) == 4
    f1 = [
        row["metrics"]["test/presence_f1"] for row in board(deconv, "--metric", "test/presence_f1")
    ]
    assert f1 == sorted(f1, reverse=True)
    best = board(deconv, "-n", "1")
    assert [row["rank"] for row in best] == [1]
    run = next(run for run in runs.values() if run.run_id == best[0]["run_id"])
    assert best[0]["metrics"]["test/mae"] == pytest.approx(run.metrics["test/mae"])
    assert run.metrics["best/val/mae"] == min(r.metrics["best/val/mae"] for r in runs.values())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--phase", "2", "--sparse"], {"reference", "weighted"}),
        (["--phase", "3"], {"cfdna"}),
        (["--dense"], {"dense"}),
        (["--study", "weights"], {"weighted"}),
        (["--dataset", "atlas"], {"reference", "weighted", "dense", "cfdna"}),
        (["--dataset", "other's"], set()),
    ],
    ids=["sparse of phase 2", "phase 3", "dense", "study", "dataset", "nothing"],
)
def test_filters(runs, deconv, arguments, expected):
    assert set(names(board(deconv, *arguments))) == expected


def test_table_marks_test_sets_that_do_not_compare(runs, deconv, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    status, output, _ = deconv("leaderboard")
    assert status == 0
    assert "tested on" in output
    assert "same set (same letter) only" in output
    low, high = (runs["cfdna"].metrics[f"test/interval/mae_{end}"] for end in ("low", "high"))
    assert low < runs["cfdna"].metrics["test/mae"] < high
    assert f"{100 * low:.3f}\N{EN DASH}{100 * high:.3f}" in output
    _, output, _ = deconv("leaderboard", "--phase", "2")
    assert "tested on" not in output
    assert deconv("leaderboard", "--phase", "1")[1] == "no finished runs match\n"


@pytest.mark.parametrize("width", [80, 100, 130])
def test_narrow_terminal_cuts_no_figure(runs, deconv, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    status, output, _ = deconv("leaderboard")
    assert status == 0
    assert "\N{HORIZONTAL ELLIPSIS}" not in output
    assert max(map(len, output.splitlines())) <= width
    for row in board(deconv):
        for metric in ("best/val/mae", "test/mae"):
            assert show(metric, row["metrics"][metric]) in output
    note = " ".join(output.split())
    assert "Left out for want of width: study, dataset, sparse, test ratio" in note
    monkeypatch.setenv("COLUMNS", "200")
    assert "Left out" not in deconv("leaderboard")[1]


def test_what_cannot_be_ranked_is_refused(runs, deconv):
    for arguments, message in (
        (["--metric", "test/prediction_ratio"], "cannot be ranked by this metric"),
        (["--metric", "test/maee/mae"], "no run has this metric; got test/maee/mae; expected"),
        (["--experiment", "nowhere"], "no such experiment; got nowhere; expected"),
        (["--study", "a'b\"c"], "both kinds of quotation mark"),
    ):
        status, _, error = deconv("leaderboard", *arguments)
        assert status == 2
        assert message in error


def test_labels_say_what_a_run_is(runs):
    client = MlflowClient()
    tags = {name: client.get_run(run.run_id).data.tags for name, run in runs.items()}
    assert {name: t["phase"] for name, t in tags.items()} == {
        "reference": "2", "weighted": "2", "dense": "2", "cfdna": "3",
    }  # fmt: skip
    assert tags["dense"]["sparse"] == "false"
    assert {t["dataset"] for t in tags.values()} == {"atlas"}
    assert [name for name, t in tags.items() if "study" in t] == ["weighted"]
    assert {name: t["config"] for name, t in tags.items()} == {name: name for name in runs}
    text = tags["cfdna"]["mlflow.note.content"]
    assert text.startswith("Two-stage (sparse) network, phase 3 (cfdna), trained on **atlas**")
    mae = runs["cfdna"].metrics["test/mae"]
    assert f"| this network | {100 * mae:.3f} % |" in text
    assert "| NNLS |" in text
    params = client.get_run(runs["cfdna"].run_id).data.params
    assert params["loss.presence_weight"] == "1.0"
    assert not [k for k, v in params.items() if v == "None" or k.startswith("output.")]


def test_phase_of_designs():
    for designs, expected in (
        ("{two_tissues: 1}", "1"), ("{several: 1}", "2"), ("{cfdna: .8, titration: .2}", "3"),
        ("{several: 1, cfdna: 1}", "mixed"), ("{several: 1, cfdna: 0}", "2"),
    ):  # fmt: skip
        config = load_config("demo", overrides=[f"data.mixtures.designs={designs}"])
        assert phase(config) == expected


def test_metric_names():
    assert smaller_is_better("test/nnls/mae") is True
    assert smaller_is_better("val/presence_f1") is False
    assert smaller_is_better("test/prediction_ratio") is None
    assert best_of("test/prediction_ratio", [0.5, 1.1, None, float("nan")]) == 1
    assert best_of("test/presence_f1", [0.5, 0.9]) == 1
    assert best_of("something", [1, 2]) is None
    assert show("test/mae", 0.0123) == "1.230 %"
    assert show("test/mae", None) == "\N{EN DASH}"
