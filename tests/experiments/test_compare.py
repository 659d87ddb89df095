"""Runs side by side: `deconv compare` in the terminal, and what it computes."""

import re
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from experiments.comparison import compare_runs, read_curves
from experiments.reading import find_run


@pytest.fixture
def compared(runs):
    return compare_runs([str(run.folder) for run in runs.values()])


def test_runs_are_found_by_folder_name_and_id(runs):
    run = runs["dense"]
    for name in (str(run.folder), run.folder.name, run.run_id):
        assert find_run(name).info.run_id == run.run_id
    assert find_run(run.folder.name, directory="elsewhere").info.run_id == run.run_id


def test_what_differs_is_all_that_differs(compared):
    expected = {
        "loss.presence_weight": ["1.0", "5.0", "1.0", "1.0"],
        "training.learning_rate": ["2e-05", "0.0005", "2e-05", "2e-05"],
        "model.use_two_stage": ["True", "True", "False", "True"],
        "data.mixtures.designs.several": ["1.0", "1.0", "1.0", None],
        "data.mixtures.designs.cfdna": [None, None, None, "1.0"],
        "phase": ["2", "2", "2", "3"],
        "study": [None, "weights", None, None],
        "config": ["reference", "weighted", "dense", "cfdna"],
    }
    table = compared.differing
    for name, values in expected.items():
        assert list(table.loc[name]) == values, name
    assert set(table.index) == {*expected, "test data", "validation data"}


def test_metrics_are_those_logged_and_lie_in_their_intervals(runs, compared):
    for side, run in zip(compared.sides, runs.values(), strict=True):
        column = compared.metrics[side.letter]
        assert column["test/mae"] == run.metrics["test/mae"]
        assert column["best/val/mae"] == run.metrics["best/val/mae"]
        assert column["test/wrong_calls"] == 1 - run.metrics["test/presence_accuracy"]
        for name, (low, high) in compared.intervals[side.letter].items():
            assert low <= column[name] <= high
            if name != "test/wrong_calls":
                logged = [
                    run.metrics[name.replace("test/", "test/interval/") + end]
                    for end in ("_low", "_high")
                ]
                assert [low, high] == pytest.approx(logged, rel=1e-9)
        assert side.stats is not None
        assert compared.tissues[side.letter].mean() == pytest.approx(column["test/mae"], rel=1e-6)
    assert "test/nnls/mae" not in compared.metrics.index


def test_paired_differences_are_those_of_the_metrics(runs, compared):
    assert list(compared.pairs) == ["B", "C"]
    for letter, name in (("B", "weighted"), ("C", "dense")):
        for metric in ("mae", "presence_f1", "spurious_mass"):
            found = compared.pairs[letter][metric]
            key = f"test/{metric}"
            expected = runs[name].metrics[key] - runs["reference"].metrics[key]
            assert found.value == pytest.approx(expected, abs=1e-9)
            assert found.low <= found.value <= found.high
    # Without a presence stage absent tissues get mass; of that 80 samples are enough to be sure.
    assert compared.pairs["C"]["spurious_mass"].low > 0
    assert compared.pairs["C"]["spurious_mass"].p_value < 0.05


def test_other_test_mixtures_are_not_paired_and_the_reason_is_said(runs, compared, deconv):
    assert list(compared.refused) == ["D"]
    assert re.fullmatch(
        r"tested on other mixtures than A \(test [0-9a-f]{16}, not test [0-9a-f]{16}\): "
        "the same data, seed and designs are needed",
        compared.refused["D"],
    )
    status, output, error = deconv("compare", runs["cfdna"].folder, runs["dense"].run_id)
    assert (status, error) == (0, "")
    assert "B is not compared with A by sample: tested on other mixtures" in output
    assert "on the same samples" not in output


def test_terminal_shows_every_part(runs, deconv, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    status, output, error = deconv("compare", *(run.folder for run in runs.values()))
    assert (status, error) == (0, "")
    for part in ("what differs", "loss.presence_weight", "mean absolute error per tissue", "Liver",
                 "C less A, on the same samples", "worse", "D is not compared"):  # fmt: skip
        assert part in output
    mae = runs["dense"].metrics["test/mae"]
    assert f"{100 * mae:.3f} %" in output


def test_curves_are_those_of_the_runs(runs, compared):
    curves = read_curves(compared.sides)
    log = pd.read_csv(runs["weighted"].folder / "training_log.csv")
    assert [epoch for epoch, _ in curves["B"]["val/mae"]] == [1, 2, 3]
    assert [v for _, v in curves["B"]["val/mae"]] == pytest.approx(list(log["val/mae"]))
    assert "val/presence_loss" not in curves["C"]  # a single-stage model has none


def test_changed_results_are_not_paired(runs, compared):
    """The digest says what was tested on; the table must agree with it."""
    from experiments.pairing import pair_sides

    first, second, *_ = compared.sides
    stats = second.stats.assign(true_proportion=second.stats["true_proportion"] * 0.5)
    assert (
        "other samples, tissues or true proportions"
        in pair_sides([first, replace(second, stats=stats)])[1]["B"]
    )
    shuffled = second.stats.sample(frac=1, random_state=0)
    pairs, refused = pair_sides([first, replace(second, stats=shuffled)])
    assert refused == {}
    assert pairs["B"]["mae"].value == pytest.approx(compared.pairs["B"]["mae"].value)
    missing = pair_sides([first, replace(second, stats=None)])[1]["B"]
    assert missing == "B has no summary_stats.csv (its run did not end)"


def test_what_cannot_be_compared_is_refused(runs, deconv, tmp_path):
    one = runs["dense"].folder
    unsent = tmp_path / "unsent"
    unsent.mkdir()
    shutil.copy(one / "config.yaml", unsent)
    for arguments, message in (
        ([one], "cannot be compared; got 1 runs; expected 2 to 12"),
        ([one, runs["dense"].run_id], "the same run twice"),
        ([one, "nowhere"], "no such run; got nowhere; expected a run's folder, its name"),
        ([one, "0" * 32], "cannot read the run"),
        ([one, unsent], "no tracking store knows the run yet; expected deconv sync"),
        ([one, runs["cfdna"].folder, "--html", "page.pdf"], "not the name of a page"),
        (
            [one, runs["cfdna"].folder, "--html", "/proc/x/page.html"],
            "/proc/x/page.html: no file can be written here; got No such file",
        ),
        (
            [one, runs["cfdna"].folder, "--html", unsent / "config.yaml" / "page.html"],
            "no file can be written here; got ",
        ),
    ):
        status, _, error = deconv("compare", *arguments)
        assert status == 2, message
        assert message in error
        assert error.count("\n") == 1
