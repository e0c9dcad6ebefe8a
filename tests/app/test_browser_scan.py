"""The pages Find and Plan, as a person uses them."""

import json
import subprocess
import sys
from urllib.parse import urlsplit

import numpy as np
import pytest
import tifffile

from tests.app.conftest import ROOT
from tests.app.test_browser_segment import downloaded

pytestmark = pytest.mark.browser
ARTEFACTS = ("Protocol (JSON)", "Map (OME-TIFF)", "Quantification (CSV)", "Efficiency (CSV)")


def open_preview(page, preview):
    page.get_by_role("link", name="Find").click()
    page.get_by_text("Drop a preview").wait_for()
    page.locator("input[type=file]").set_input_files(preview)
    page.get_by_text("Yellow is urgent").wait_for()


def test_from_a_preview_and_a_click_to_a_simulated_scan(page, preview, tmp_path):
    open_preview(page, preview)
    chart = page.locator("[data-testid=stVegaLiteChart]").first
    page.wait_for_timeout(2000)  # until the chart takes clicks
    place = chart.bounding_box()
    page.mouse.click(place["x"] + 305, place["y"] + 120)  # on the film's pore
    page.get_by_text("by strangeness, clicks").wait_for()

    clicks = downloaded(page, "Clicks (JSON)", tmp_path)
    ((y, x),) = json.loads(clicks.read_text())[preview.name]["positive"]
    assert abs(y - 64) <= 24 and abs(x - 163) <= 24  # its middle, to the patch

    page.get_by_role("textbox", name="Sought in words", exact=True).fill("cracks")
    page.keyboard.press("Enter")
    page.get_by_text("searching by text needs CLIP's weights").wait_for()
    page.get_by_role("textbox", name="Sought in words", exact=True).fill("")
    page.keyboard.press("Enter")
    page.get_by_text("by strangeness, clicks").wait_for()

    page.get_by_role("link", name="Plan").click()
    page.get_by_text("Squares are fields of view").wait_for()
    page.get_by_text("Stage and beam").click()
    page.get_by_role("spinbutton", name="Dwell").fill("1000")  # so that the simulation lasts
    page.keyboard.press("Enter")
    page.get_by_text("dwell_us=1000").wait_for()
    (tmp_path / preview.name).write_bytes(preview.read_bytes())
    command = page.locator("[data-testid=stCode]").last.inner_text().split()
    assert command[0] == "python" and "clicks=clicks.json" in command
    arguments = [sys.executable, str(ROOT / command[1]), *command[2:]]
    subprocess.run(arguments, check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    for label in ARTEFACTS:
        path = downloaded(page, label, tmp_path)
        written = tmp_path / "scan" / path.name
        if path.suffix == ".tif":  # whose last bits differ between the two processes
            np.testing.assert_allclose(tifffile.imread(path), tifffile.imread(written), atol=1e-4)
        else:
            assert path.read_bytes() == written.read_bytes(), path.name

    page.get_by_role("button", name="Simulate").click()
    page.get_by_text("Fields, scanning").wait_for()
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Fields, paused").wait_for()
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_role("button", name="Abort").click()
    page.get_by_text("Fields, aborted").wait_for()
    assert {urlsplit(url).hostname for url in page.asked if url.startswith(("http", "ws"))} == {"localhost"}


def test_two_tabs_keep_to_themselves_and_a_session_moves_from_one_to_the_other(
    page, browser, served, preview, tmp_path
):
    open_preview(page, preview)
    page.get_by_text("Clicks by keyboard").click()
    page.get_by_role("button", name="Add as sought", exact=True).click()
    page.get_by_text("by strangeness, clicks").wait_for()
    page.get_by_role("link", name="Session").click()
    session = downloaded(page, "Save this session", tmp_path)

    other = browser.new_context().new_page()
    other.set_default_timeout(60_000)
    other.goto(f"{served}/find")
    other.get_by_text("Drop a preview").wait_for()
    other.get_by_role("link", name="Session").click()
    other.get_by_text("Open a session").wait_for()
    other.locator("input[type=file]").set_input_files(session)
    other.get_by_text("is open: 1 files").wait_for()
    other.get_by_role("link", name="Find").click()
    other.get_by_text("by strangeness, clicks").wait_for()
    other.context.close()
