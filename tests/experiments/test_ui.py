"""What a person sees in the MLflow user interface, in a real browser."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from experiments.launch import train_and_report
from experiments.promotion import promote

DECONV = str(Path(sys.executable).with_name("deconv"))
BROWSER_OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
]  # fmt: skip

LINE_OF_THREE_POINTS = """() => [...document.querySelectorAll('.js-plotly-plot path.js-line')]
    .some(line => (line.getAttribute('d').match(/[LHVC]/g) || []).length >= 2)"""


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as api:
        chromium = api.chromium.launch(executable_path=path, args=BROWSER_OPTIONS)
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)
        yield page
        chromium.close()


@pytest.fixture
def start_ui():
    processes = []

    def start(folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = (folder / "ui.log").open("w")
        processes.append(
            subprocess.Popen(
                [DECONV, "ui", "--port", str(port)],
                cwd=folder, stdout=log, stderr=log, start_new_session=True,
            )
        )  # fmt: skip
        log.close()
        deadline = time.monotonic() + 120
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
        process.wait(timeout=30)


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
