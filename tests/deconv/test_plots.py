"""Figures show the numbers of the table."""

import pandas as pd
import pytest

from deconv.plots import composition, evaluation_figures, miami, miami_html


@pytest.fixture
def stats():
    return pd.DataFrame(
        {
            "sample": ["s0", "s0", "s1", "s1"],
            "tissue": ["a", "b", "a", "b"],
            "true_proportion": [0.3, 0.7, 1.0, 0.0],
            "predicted_proportion": [0.4, 0.6, 0.9, 0.1],
            "presence_probability": [0.9, 0.95, 1.0, 0.2],
        }
    )


def test_miami_mirrors_predictions_below_the_truth(stats):
    axes = miami(stats).axes[0]
    ends = [[path.vertices[1, 1] for path in c.get_paths()] for c in axes.collections]
    assert ends == [[30, 100], [-40, -90], [0, 70], [-10, -60]]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b"]


def test_interactive_miami_needs_no_network(stats):
    page = miami_html(stats)
    assert "Plotly.newPlot" in page
    assert 'src="http' not in page


def test_all_figures_of_an_evaluation_are_drawn(stats, tmp_path):
    figures = evaluation_figures(stats)
    assert set(figures) == {
        "miami", "predicted_against_true", "error_per_tissue", "error_by_n_tissues", "reliability",
    }  # fmt: skip
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
    bars = figures["error_per_tissue"].axes[0].patches
    assert sorted(bar.get_width() for bar in bars) == pytest.approx([10, 10])
    assert "reliability" not in evaluation_figures(stats.drop(columns="presence_probability"))


def test_composition_stacks_to_all_of_the_dna(stats):
    table = stats.rename(columns={"predicted_proportion": "proportion"})
    axes = composition(table).axes[0]
    tops = [bar.get_y() + bar.get_height() for bar in axes.patches]
    assert max(tops) == pytest.approx(100)
    assert "first 1 of 2" in composition(table, max_samples=1).axes[0].get_title()


def test_miami_leaves_out_samples_without_the_tissue(stats):
    absent = stats.assign(sample=["s2", "s2", "s3", "s3"], true_proportion=0.0)
    absent["predicted_proportion"] = [0.0, 0.2, 0.0005, 0.0]
    axes = miami(pd.concat([stats, absent])).axes[0]
    assert [len(c.get_paths()) for c in axes.collections] == [2, 2, 3, 3]
