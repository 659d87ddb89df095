"""What a person sees in the MLflow user interface, in a real browser."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from browsers import open_page
from mlflow.tracking import MlflowClient
from ports import free_port

from experiments.launch import train_and_report
from experiments.promotion import promote

DECONV = str(Path(sys.executable).with_name("deconv"))

LINE_OF_THREE_POINTS = """() => [...document.querySelectorAll('.js-plotly-plot path.js-line')]
    .some(line => (line.getAttribute('d').match(/[LHVC]/g) || []).length >= 2)"""


@pytest.fixture
def browser():
    with open_page(1400) as page:
        yield page


@pytest.fixture
def start_ui():
    processes = []

    def start(folder):
        port = free_port()
        log = (folder / "ui.log").open("w")
        processes.append(
            subprocess.Popen(
                [DECONV, "ui", "--port", str(port)],
                cwd=folder, stdout=log, stderr=log, start_new_session=True,
            )
        )  # fmt: skip
        log.close()
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                    return f"http://127.0.0.1:{port}/#"
            except OSError:
                time.sleep(0.2)
        raise TimeoutError((folder / "ui.log").read_text())

    yield start
    for process in processes:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=120)


def test_run_page_shows_curves_miami_plot_and_registered_model(
    store, client, small_config, atlas_file, browser, start_ui
):
    result = train_and_report(str(small_config()), data=str(atlas_file))
    promote(result.run_id)
    base = start_ui(store)
    experiment = client.get_run(result.run_id).info.experiment_id
    run_page = f"{base}/experiments/{experiment}/runs/{result.run_id}"

    browser.goto(run_page)
    browser.get_by_role("heading", name=result.folder.name).wait_for()
    browser.get_by_text("Finished").first.wait_for()
    browser.get_by_role("link", name="sparse-deconvolution").last.wait_for()

    browser.get_by_role("tab", name="Model metrics").click()
    search = browser.get_by_placeholder("Search metric charts")
    search.fill("train/mae")
    browser.get_by_text("mae").first.wait_for()
    browser.wait_for_function(LINE_OF_THREE_POINTS)

    browser.goto(f"{run_page}/artifacts/figures/miami.png")
    browser.get_by_text("figures/miami.png").first.wait_for()
    picture = browser.locator("img[src^='blob:'], img[src*='miami']").first
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 1000

    browser.goto(f"{base}/models/sparse-deconvolution")
    browser.get_by_text("Version 1").first.wait_for()


def test_compare_page_of_four_runs(runs, browser, start_ui, tmp_path):
    ids = [run.run_id for run in runs.values()]
    experiment = MlflowClient().get_run(ids[0]).info.experiment_id
    base = start_ui(Path.cwd())
    shots = Path(os.environ.get("DECONV_SCREENSHOTS", tmp_path))

    # The run page says what the run is and how good, in words.
    browser.goto(f"{base}/experiments/{experiment}/runs/{ids[3]}")
    browser.get_by_text("Two-stage (sparse) network, phase 3 (cfdna)").first.wait_for()
    browser.get_by_role("cell", name="coverage-weighted NNLS").first.wait_for()
    browser.screenshot(path=shots / "run.png", full_page=True)

    # The list of runs can be filtered by the tags.
    query = urllib.parse.quote("tags.phase = '2' AND tags.sparse = 'true'")
    browser.goto(f"{base}/experiments/{experiment}/runs?searchFilter={query}")
    for name, is_shown in (("reference", True), ("weighted", True), ("dense", False)):
        link = browser.get_by_role("link", name=runs[name].folder.name)
        if is_shown:
            link.first.wait_for()
        else:
            assert link.count() == 0
    browser.screenshot(path=shots / "list.png")

    browser.goto(
        f"{base}/compare-runs?runs={urllib.parse.quote(json.dumps(ids))}"
        f"&experiments={urllib.parse.quote(json.dumps([experiment]))}"
    )
    browser.get_by_text("Comparing 4 Runs").first.wait_for()
    browser.get_by_text("Parallel Coordinates Plot").first.wait_for()
    browser.locator(".js-plotly-plot").first.wait_for()
    for text in ("loss.presence_weight", "best/val/mae"):  # the table shows its first rows
        browser.get_by_text(text, exact=True).first.wait_for(state="attached")
    browser.screenshot(path=shots / "compare.png", full_page=True)


def test_comparison_page_is_self_contained(runs, deconv, browser, tmp_path):
    problems = []
    browser.on("console", lambda m: m.type in ("error", "warning") and problems.append(m.text))
    browser.on("pageerror", lambda error: problems.append(str(error)))
    browser.on("request", lambda r: r.url.startswith("http") and problems.append(r.url))
    page = tmp_path / "comparison.html"
    assert deconv("compare", *(run.folder for run in runs.values()), "--html", page)[0] == 0
    assert page.read_text().count("plotly.js v") == 1

    browser.goto(page.as_uri())
    figures = browser.locator("figure")
    assert figures.count() == 5
    for i in range(5):
        figures.nth(i).locator(".main-svg .trace, .main-svg image").first.wait_for(
            state="attached"
        )
    links = browser.locator("nav a")
    for i in range(links.count()):
        links.nth(i).click()
        target = browser.evaluate("document.querySelector(location.hash).tagName")
        assert target in ("SECTION", "FIGURE")
    assert browser.locator("#differing").get_by_text("loss.presence_weight").count() == 1
    mae = browser.locator("#metrics tr", has_text="test/mae").locator("td").all_inner_texts()
    assert [text.split()[0] for text in mae] == [
        f"{100 * run.metrics['test/mae']:.3f}" for run in runs.values()
    ]
    assert browser.locator("#paired h3").all_inner_texts() == ["B less A", "C less A"]
    assert "tested on other mixtures than A" in browser.locator(".refused").inner_text()
    # Four Miami plots, each with true and predicted proportions.
    traces = "document.getElementById('plot-4').data.map(trace => trace.name)"
    assert browser.evaluate(traces) == ["true", "predicted"] * 4
    browser.set_viewport_size({"width": 380, "height": 800})
    browser.reload()
    assert browser.evaluate("document.documentElement.scrollWidth") <= 380
    assert problems == []
