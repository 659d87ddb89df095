"""A real browser, for tests of what people see."""

import shutil
from contextlib import contextmanager

import pytest

OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
]  # fmt: skip


@contextmanager
def open_page(width, height=1000):
    """Open an empty page of headless Chromium; skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as api:
        chromium = api.chromium.launch(executable_path=path, args=OPTIONS)
        page = chromium.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(60_000)
        yield page
        chromium.close()
