"""The page Segment, as a person uses it."""

import subprocess
import sys
from urllib.parse import urlsplit

import pytest

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
