"""The report of an evaluation, as a person opens it in a browser."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
import torch

from deconv.bundle import Bundle, write_bundle
from deconv.evaluate import draw_mixtures
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.store import write_h5ad
from experiments.config import load_config
from experiments.launch import train_and_report
from experiments.promotion import promote
from experiments.rundir import RunFolder

EVIL = "<script>alert(1)</script>"
HOVER = """() => {
  const figure = document.getElementById("plot-1");
  const at = figure.data.findIndex(t => t.customdata && t.customdata[0][0].includes("alert"));
  figure.scrollIntoView();
  Plotly.Fx.hover(figure, [{curveNumber: at, pointNumber: 0}]);
  return figure.querySelector(".hoverlayer").textContent;
}"""
MARKS = ".main-svg .trace, .main-svg image"
TABLES = {"overall": "metric", "per_tissue": "tissue", "by_n_tissues": "n_present"}


class Links(HTMLParser):
    """Collects what a page would load or lead to."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        names = ("src", "href", "srcset", "data", "action")
        self.found += [value for name, value in attrs if name in names]


@pytest.fixture
def page():
    """A page of a headless browser that fails on any error in its console or any request."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as api:
        chromium = api.chromium.launch(executable_path=path, args=options)
        page = chromium.new_page(viewport={"width": 1200, "height": 900})
        problems = []
        page.on("console", lambda m: m.type in ("error", "warning") and problems.append(m.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda r: r.url.startswith("http") and problems.append(r.url))
        yield page
        chromium.close()
    assert problems == []


@pytest.fixture
def model(tmp_path, atlas):
    torch.manual_seed(0)
    settings = ModelConfig(hidden_size=16, intermediate_size=16)
    network = TwoStageNetwork(settings, atlas, read_effect=2.5)
    write_bundle(tmp_path / "bundle", Bundle(network, atlas))
    return tmp_path / "bundle"


@pytest.fixture
def write_samples(tmp_path, unseen):
    """Write mixtures of known proportions, changed as asked for."""
    counts = draw_mixtures(unseen, 12)

    def write(change=lambda proportions: proportions, names=None):
        samples, truth = counts.samples, counts.proportions
        if names is not None:
            samples, truth = samples.set_axis(names, axis=0), truth.set_axis(names, axis=0)
        path = tmp_path / "mixtures.h5ad"
        write_h5ad(replace(counts, samples=samples, proportions=change(truth)), path)
        return path

    return write


@pytest.fixture
def trained(store, small_config, atlas_file, capsys):
    """A finished run, of data that the test may change."""
    shutil.copy(atlas_file, store / "atlas.h5ad")
    result = train_and_report(str(small_config()), data=str(store / "atlas.h5ad"))
    capsys.readouterr()  # what training printed is not what the command under test prints
    return result


def shown_tables(page):
    """Return the rows of each table on the page as texts, without the small print."""
    return {
        name: page.locator(f"#{name} tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].map(cell => cell.firstChild.data.trim()))"
        )
        for name in TABLES
    }


def number(text):
    """Return a shown number, to as many digits as are shown."""
    if text == "\N{EN DASH}":
        return None
    if "e" in text:
        return pytest.approx(float(text), rel=5.01e-3)
    if text.endswith(" %"):
        return pytest.approx(float(text.removesuffix(" %")) / 100, abs=5.01e-6)
    return pytest.approx(float(text.replace(",", "")), abs=5.01e-4)


def assert_same(shown, told):
    """Compare tables shown with those of the JSON file."""
    for name, index in TABLES.items():
        assert len(shown[name]) == len(told[name]) > 0
        for row, record in zip(shown[name], told[name], strict=True):
            assert row[0] == str(record.pop(index))
            assert [number(text) for text in row[1:]] == list(record.values())


def test_report_of_a_run_is_one_page_that_needs_nothing_else(store, trained, deconv, page):
    status, output, error = deconv("evaluate", trained.run_id, "-o", store / "out" / "report.html")
    assert (status, error) == (0, "")
    assert output.split() == [
        str(store / "out" / name) for name in ("report.html", "report.json", "summary_stats.csv")
    ]
    told = json.loads((store / "out" / "report.json").read_text())
    metrics = {row["metric"]: row for row in told["overall"]}
    for name, method in (("", "model"), ("nnls/", "nnls"), ("weighted_nnls/", "weighted_nnls")):
        for metric in ("mae", "presence_f1", "spurious_mass", "presence_auroc"):
            expected = trained.metrics[f"test/{name}{metric}"]
            assert metrics[metric][method] == pytest.approx(expected, rel=1e-6)
    ours, runs = (pd.read_csv(f / "summary_stats.csv") for f in (store / "out", trained.folder))
    pd.testing.assert_frame_equal(ours, runs)

    html = (store / "out" / "report.html").read_text()
    links = Links()
    links.feed(html)
    assert links.found
    assert all(link.startswith("#") for link in links.found)
    assert html.count("plotly.js v") == 1

    page.goto((store / "out" / "report.html").as_uri())
    assert_same(shown_tables(page), told)
    for fact in (trained.run_id, told["facts"]["data SHA-256"], "80 test mixtures"):
        assert page.locator("#facts").get_by_text(fact).count() == 1
    assert page.get_by_text("For research use only").is_visible()
    figures = page.locator("figure")
    assert figures.count() == 7
    for i in range(6):
        figures.nth(i).locator(MARKS).first.wait_for(state="attached")
    targets = page.locator("nav a").evaluate_all(
        "links => links.map(link => document.querySelector(link.hash) !== null)"
    )
    assert len(targets) == 5 + figures.count()
    assert all(targets)
    page.set_viewport_size({"width": 380, "height": 800})
    page.reload()  # plotly follows a change of size when it finds the time
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


def test_names_of_samples_stay_text(store, deconv, model, write_samples, page):
    data = write_samples(names=[EVIL, *(f"s{i}" for i in range(11))])
    status, _, error = deconv("evaluate", "--model", model, "--data", data)
    assert (status, error) == (0, "")
    told = json.loads((store / "report.json").read_text())
    assert EVIL in {row["sample"] for row in told["best"] + told["worst"]}
    assert told["facts"]["MLflow run id"] == "unknown"
    assert EVIL not in (store / "report.html").read_text()
    page.goto((store / "report.html").as_uri())
    assert page.locator("#best, #worst").get_by_text(EVIL, exact=True).count() >= 1
    assert EVIL in page.evaluate(HOVER)
    assert_same(shown_tables(page), told)


def test_registered_model_is_named_by_its_version(store, trained, deconv, write_samples):
    promote(trained.run_id)
    uri = "models:/sparse-deconvolution/1"
    assert deconv("evaluate", "--model", uri, "--data", write_samples())[0] == 0
    facts = json.loads((store / "report.json").read_text())["facts"]
    assert (facts["model version"], facts["MLflow run id"]) == ("1", trained.run_id)


def refused(deconv, folder, *arguments):
    before = sorted(folder.rglob("*"))
    status, _, error = deconv("evaluate", *arguments)
    assert status == 2, error
    assert re.fullmatch("error: [^\n]+\n", error)
    assert sorted(folder.rglob("*")) == before
    return error


def test_samples_that_cannot_be_judged_are_refused(store, deconv, model, write_samples):
    def error(change):
        return refused(deconv, store, "--model", model, "--data", write_samples(change))

    write_samples()  # so that the file is there before and after
    assert "mixtures.h5ad: the true proportions of the samples are not known" in error(
        lambda truth: None
    )
    assert "model does not know; got Spleen; expected Blood, Colon" in error(
        lambda truth: truth.rename(columns={"Liver": "Spleen"})
    )
    assert "sample mixture-0, Blood: a true proportion is not a fraction" in error(
        lambda truth: 100 * truth + 1
    )


def test_what_cannot_be_evaluated_is_refused(store, deconv, small_config, model, atlas_file):
    folder = RunFolder.create(load_config(small_config(), data=str(atlas_file)), "begun").path
    assert "the run has no checkpoint yet; expected checkpoint_best.pt" in refused(
        deconv, store, folder
    )
    assert "no such run; got nowhere" in refused(deconv, store, "nowhere")
    assert "report.pdf: not the name of a page; expected a file .html" in refused(
        deconv, store, folder, "-o", store / "report.pdf"
    )
    for arguments in ((), (folder, "--model", model), ("--model", model), ("--data", atlas_file)):
        assert "expected RUN, or --model and --data" in refused(deconv, store, *arguments)


def test_data_that_changed_since_the_run_are_refused(store, trained, deconv, pure):
    changed = pure.methylated.copy()
    changed[0, 0] = 0 if changed[0, 0] else pure.coverage[0, 0]
    write_h5ad(replace(pure, methylated=changed), store / "atlas.h5ad")
    assert "the data changed since the run began" in refused(deconv, store, trained.folder)
