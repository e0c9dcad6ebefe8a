"""The cockpit served as `sempre app` serves it, and a browser on it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from shutil import which

import pytest

from sempre.images.write import write_micrograph
from sempre.synthetic.known_defects import render_sample

ROOT = Path(__file__).parents[2]
WAIT_MS = 60_000


@pytest.fixture(scope="session")
def preview(tmp_path_factory) -> Path:
    """A rendered film with defects, 320x320 px of 8 nm."""
    path = tmp_path_factory.mktemp("micrographs") / "film.tif"
    write_micrograph(path, render_sample("film", 3, (320, 320)).pixels, 8.0)
    return path


@pytest.fixture(scope="session")
def particles(tmp_path_factory) -> Path:
    """Rendered spheres, 256x256 px of 5 nm."""
    path = tmp_path_factory.mktemp("micrographs") / "spheres.tif"
    write_micrograph(path, render_sample("particles", 1, (256, 256)).pixels, 5.0)
    return path


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """The address of `sempre app`, started in an empty folder."""
    pytest.importorskip("streamlit", reason="the extra app is not installed")
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("served")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = "from sempre.deploy.command import main; main()"
    command = [sys.executable, "-c", code, "app", "--port", str(port)]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    address = f"http://localhost:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
                break
            except OSError:
                assert process.poll() is None, (folder / "log.txt").read_text()
                time.sleep(0.25)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.fixture(scope="session")
def browser():
    """Debian's chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, served):
    """A tab on the first page, that remembers in `asked` which addresses it was sent to, and fails for faults."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(served)
    yield page
    context.close()
