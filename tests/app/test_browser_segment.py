"""The page Segment, as a person uses it."""

import subprocess
import sys
from urllib.parse import urlsplit

import numpy as np
import pytest
import tifffile

from tests.app.conftest import ROOT

pytestmark = pytest.mark.browser


def segmented(page, micrograph):
    page.locator("input[type=file]").set_input_files(micrograph)
    page.get_by_text("1 px is").wait_for()
    page.get_by_role("button", name="Segment", exact=True).click()
    page.get_by_text("Particles score more than").wait_for()
    page.get_by_role("button", name="Table (CSV)").wait_for()


def downloaded(page, label, folder):
    with page.expect_download() as waiting:
        page.get_by_role("button", name=label).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_what_is_downloaded_is_what_the_command_line_writes(page, particles, tmp_path):
    segmented(page, particles)
    code = "from sempre.deploy.command import main; main()"
    arguments = ["segment", str(particles), "--format", "tif,csv,overlay,rois", "--out", str(tmp_path / "cli")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    for label in ("Labels (TIFF)", "Table (CSV)", "Picture (PNG)", "ImageJ ROIs (ZIP)"):
        path = downloaded(page, label, tmp_path)
        assert path.read_bytes() == (tmp_path / "cli" / path.name).read_bytes(), path.name
    assert {urlsplit(url).hostname for url in page.asked if url.startswith(("http", "ws"))} == {"localhost"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.tif", b"", "empty.tif is empty"),
        ("damaged.png", b"no picture", "damaged.png cannot be read"),
        ("notes.txt", b"text", "notes.txt has the unknown suffix"),
    ],
)
def test_a_bad_file_gets_a_sentence(page, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    page.locator("input[type=file]").set_input_files(tmp_path / name)
    page.get_by_text(message).wait_for()
    assert str(tmp_path.parent) not in page.inner_text("body") and "Traceback" not in page.inner_text("body")


def test_a_tiff_of_100_mb_is_shown_and_segmented_at_a_smaller_scale(page, tmp_path):
    pixels = np.random.default_rng(0).integers(900, 1100, (7100, 7100), dtype=np.uint16)
    for row in range(600, 7000, 1600):
        pixels[row : row + 700, 500:1300] = 4000
    tifffile.imwrite(tmp_path / "large.tif", pixels)
    page.locator("input[type=file]").set_input_files(tmp_path / "large.tif")
    page.get_by_text("large.tif, 7100×7100 px").wait_for()
    page.get_by_text("More", exact=True).click()
    page.get_by_role("spinbutton").fill("0.05")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Segment", exact=True).click()
    page.get_by_text("Particles score more than").wait_for()


def test_the_threshold_answers_without_another_look(page, particles):
    segmented(page, particles)
    number = page.locator("[data-testid=stMetricValue]").first
    before = int(number.inner_text())
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    page.get_by_text("--score-threshold 1").wait_for()
    page.wait_for_function("document.querySelector('[data-testid=stMetricValue]').innerText === '0'")
    assert before > 0
