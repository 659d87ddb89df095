"""Tables and interactive figures of a report, on a table small enough to check by hand."""

import numpy as np
import pandas as pd
import pytest

from deconv import report_tables
from deconv.interactive import evaluation_figures

TRUE = [[0.6, 0.4, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.5]]
PREDICTED = [[0.5, 0.3, 0.2], [0.9, 0.1, 0.0], [0.5, 0.0, 0.5]]
CALLED = [[1, 1, 1], [1, 0, 0], [1, 0, 1]]
PRESENCE = [[0.92, 0.85, 0.75], [1.0, 0.35, 0.05], [0.94, 0.0, 0.94]]
FROM = 0.01
UNDEFINED = float("nan")


def table(true=TRUE, predicted=PREDICTED, called=CALLED, presence=PRESENCE):
    return pd.DataFrame(
        {
            "sample": np.repeat(["s0", "s1", "s2"], 3),
            "tissue": ["a", "b", "c"] * 3,
            "true_proportion": np.ravel(true),
            "predicted_proportion": np.ravel(predicted),
            "call": np.where(np.ravel(called), "detected", "not detected"),
            "presence_probability": np.ravel(presence),
        }
    )


@pytest.fixture
def stats():
    return table()


def row(frame, name):
    return pytest.approx(frame.loc[name].to_dict(), nan_ok=True)


def test_methods_stand_side_by_side_and_beside_the_trivial_one(stats):
    exact = stats.assign(predicted_proportion=stats["true_proportion"])
    found = report_tables.overall({"model": stats, "exact": exact}, FROM)
    assert list(found.columns) == ["model", "exact", "uniform"]
    assert found["model"][["mae", "exact_support"]].tolist() == pytest.approx([0.6 / 9, 2 / 3])
    assert found.loc["mae", "exact"] == 0
    uniform = found["uniform"]
    assert uniform["mae"] == pytest.approx((2 + 4 + 2) / 27)
    assert uniform["spurious_mass"] == pytest.approx(4 / 9)
    assert uniform["presence_recall"] == 1
    assert uniform["presence_auroc"] == 0.5


def test_numbers_of_each_tissue(stats):
    found = report_tables.per_tissue(stats, FROM)
    assert found.index.tolist() == ["a", "b", "c"]
    assert row(found, "a") == {
        "n_present": 3, "mae": 0.2 / 3, "bias": -0.2 / 3, "presence_precision": 1,
        "presence_recall": 1, "presence_f1": 1, "prediction_ratio": (5 / 6 + 0.9 + 1) / 3,
        "spurious_mass": UNDEFINED,
    }  # fmt: skip
    assert row(found, "b") == {
        "n_present": 1, "mae": 0.2 / 3, "bias": 0, "presence_precision": 1,
        "presence_recall": 1, "presence_f1": 1, "prediction_ratio": 0.75, "spurious_mass": 0.05,
    }  # fmt: skip
    assert row(found, "c") == {
        "n_present": 1, "mae": 0.2 / 3, "bias": 0.2 / 3, "presence_precision": 0.5,
        "presence_recall": 1, "presence_f1": 2 / 3, "prediction_ratio": 1, "spurious_mass": 0.1,
    }  # fmt: skip


def test_tissue_that_no_sample_has_is_not_called_a_failure():
    stats = table(true=[[0.6, 0.4, 0], [1, 0, 0], [1, 0, 0]])
    found = report_tables.per_tissue(stats, FROM).loc["c"]
    assert found["n_present"] == 0
    assert found[["presence_recall", "presence_f1", "prediction_ratio"]].isna().all()
    assert found[["presence_precision", "spurious_mass"]].tolist() == pytest.approx([0, 0.7 / 3])


def test_samples_are_grouped_by_the_number_of_their_tissues(stats):
    found = report_tables.by_n_tissues(stats, FROM)
    assert row(found, 1) == {
        "n_samples": 1, "mae": 0.2 / 3, "exact_support": 1, "presence_f1": 1,
        "spurious_mass": 0.1,
    }  # fmt: skip
    assert row(found, 2) == {
        "n_samples": 2, "mae": 0.2 / 3, "exact_support": 0.5, "presence_f1": 8 / 9,
        "spurious_mass": 0.1,
    }  # fmt: skip


def test_worst_and_best_samples_with_the_tissues_concerned(stats):
    coverage = pd.Series({"s0": 10.0, "s1": 20.0, "s2": 30.0})
    worst = report_tables.ranked_samples(stats, coverage, worst=True, n=2)
    pairs = [tuple(pair) for pair in worst[["sample", "tissue"]].to_numpy()]
    assert pairs == [("s0", "a"), ("s0", "b"), ("s0", "c"), ("s1", "a"), ("s1", "b")]
    assert worst["mae"].tolist() == pytest.approx([0.4 / 3] * 3 + [0.2 / 3] * 2)
    assert worst["coverage"].tolist() == [10, 10, 10, 20, 20]
    assert worst["predicted_proportion"].tolist() == [0.5, 0.3, 0.2, 0.9, 0.1]
    best = report_tables.ranked_samples(stats, coverage, worst=False, n=1)
    assert best["sample"].unique().tolist() == ["s2"]


def test_mass_of_absent_tissues_is_weighted_by_the_one_present(stats):
    found = report_tables.mass_confusion(stats, FROM)
    expected = [
        [UNDEFINED, 0.1 / 1.5, 0.12 / 1.6],
        [UNDEFINED, UNDEFINED, 0.2],
        [UNDEFINED, 0, UNDEFINED],
    ]
    np.testing.assert_allclose(found.to_numpy(), expected)


def test_reliability_counts_each_tenth(stats):
    found = report_tables.reliability(stats, FROM)
    assert found["from"].tolist() == [0, 0.3, 0.7, 0.8, 0.9]
    assert found["n"].tolist() == [2, 1, 1, 1, 4]
    assert found["share_present"].tolist() == [0, 0, 0, 1, 1]
    assert found["mean_probability"].tolist() == pytest.approx([0.025, 0.35, 0.75, 0.85, 0.95])


@pytest.fixture
def with_intervals(stats):
    predicted = stats["predicted_proportion"]
    low = (predicted - 0.15).clip(lower=0)
    return stats.assign(interval_low=low, interval_high=predicted + 0.15)


def test_intervals_by_true_fraction(with_intervals):
    found = report_tables.interval_coverage(with_intervals)
    assert found.index.tolist() == ["0 %", "20-50 %", "50-100 %"]
    assert found["n"].tolist() == [4, 1, 4]
    assert found["coverage"].tolist() == [0.75, 1, 1]
    assert found["width"].tolist() == pytest.approx([0.85 / 4, 0.3, 0.3])


def test_order_of_the_rows_does_not_matter(stats):
    shuffled = stats.sample(frac=1, random_state=0)
    for make in (report_tables.per_tissue, report_tables.by_n_tissues):
        pd.testing.assert_frame_equal(
            make(stats, FROM), make(shuffled, FROM).loc[make(stats, FROM).index]
        )


def test_interactive_figures_show_the_numbers_and_names_as_they_are(with_intervals):
    named = with_intervals.replace({"sample": {"s0": "<b>s0</b>"}, "tissue": {"c": "a<c"}})
    figures = evaluation_figures(named, FROM)
    assert len(figures) == 7
    heat = figures["Where spurious mass goes"].data[0]
    assert heat.z[0][2] == pytest.approx(7.5)
    assert list(heat.x) == ["a", "b", "a&lt;c"]
    assert list(figures["Reliability of presence"].data[2].text) == [2, 1, 1, 1, 4]
    points = figures["Predicted against true proportions"].data[1:]
    assert [trace.name for trace in points] == ["a", "a&lt;c", "b"]
    assert points[0].customdata[0][0] == "&lt;b&gt;s0&lt;/b&gt;"
    assert sum(len(trace.x) for trace in points) == 7


def test_figures_need_only_the_columns_that_every_method_has(stats):
    assert len(evaluation_figures(stats.drop(columns="presence_probability"), FROM)) == 5
