"""What holds without a browser: the server's settings, what is kept, and the base install's pages."""

import io
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import tifffile

pytest.importorskip("streamlit", reason="the extra app is not installed")

from sempre.app.__main__ import arguments
from sempre.app.correcting import begin, parse_points
from sempre.app.kept import unpack
from sempre.app.pictures import cells_layer, reduced
from sempre.app.segmenting import Found, pages_left_out
from sempre.deploy.segmenter import Segmentation
from sempre.errors import InputError
from sempre.images import read_micrograph
from sempre.segmentation.particles import measure_particles

WITHOUT_TORCH = """
import sys
import scipy.stats  # which looks into sys.modules for PyTorch, and takes None there for it
for name in ("torch", "timm", "sklearn", "omegaconf"):
    sys.modules[name] = None
from streamlit.testing.v1 import AppTest

def shown(page):
    test = AppTest.from_string(f"from sempre.app import {page}_page\\n{page}_page.show()", default_timeout=60).run()
    assert not test.exception, test.exception
    return " ".join(str(info.value) for info in test.info)

assert "Drop micrographs" in shown("segment")
for page in ("find", "plan"):
    assert "[train,app]'" in shown(page), shown(page)
"""


def test_without_torch_segment_is_offered_and_find_and_plan_say_what_they_need(tmp_path):
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], check=True, cwd=tmp_path)


def test_the_server_listens_to_this_machine_only_and_tells_nobody():
    given = arguments(8501)
    for setting in ("server.address=localhost", "browser.gatherUsageStats=false", "server.headless=true"):
        assert f"--{setting}" in given
    assert any(setting.startswith("--server.maxUploadSize=") for setting in given)


def test_above_a_score_the_first_particles_are_left():
    labels = np.zeros((8, 12), np.int32)
    labels[1:4, 1:4], labels[5:7, 6:10] = 1, 2
    found = Segmentation(labels, measure_particles(labels, np.array([0.9, 0.5], np.float32)))
    left = found.above(0.5)
    assert [particle.id for particle in left.particles] == [1]
    assert (left.labels == (labels == 1)).all()
    assert (found.above(0.0).labels == labels).all()


def test_pictures_are_made_small_and_all_of_a_large_one_can_be_clicked():
    small, factor = reduced(np.zeros((4000, 100), np.uint8), 1600)
    assert factor == 3 and small.shape == (1334, 34)
    cells = cells_layer((4000, 3000), 16, "cell").data
    assert len(cells) <= 10_000
    assert (cells.x2.max(), cells.y2.max()) == (3000, 4000)


def test_what_is_no_session_gets_a_sentence():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("other.txt", "no session")
    for content in (b"no zip", packed.getvalue()):
        with pytest.raises(InputError, match="this is no session of sempre"):
            unpack(io.BytesIO(content))


@pytest.mark.parametrize(("pages", "said"), [(1, ""), (2, "the other is left out"), (5, "the other 4 are left out")])
def test_pages_that_are_left_out_are_said(tmp_path, pages, said):
    stack = np.random.default_rng(0).integers(0, 255, (pages, 32, 40), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    text = pages_left_out(read_micrograph(tmp_path / "a.tif"))
    assert said in text and bool(said) == bool(text)
    assert not said or text.startswith(f"Page 1 of {pages} is shown")


def corrected_pair():
    """Corrections of two squares of scores 0.9 and 0.5."""
    labels = np.zeros((40, 60), np.int32)
    labels[10:30, 5:25], labels[10:30, 35:55] = 1, 2
    segmentation = Segmentation(labels, measure_particles(labels, np.array([0.9, 0.5], np.float32)))
    return begin(Found(np.arange(2400, dtype=np.uint16).reshape(40, 60), segmentation, "", 2400), 0.0)


def test_scores_and_measures_follow_the_edits():
    corrected = corrected_pair()
    corrected.edit("split", [(5, 45), (35, 45)], 1)
    corrected.edit("polygon", [(1, 1), (1, 8), (7, 8), (7, 1)], 1)
    scores = [particle.score for particle in corrected.found.segmentation.particles]
    assert scores == pytest.approx([0.9, 0.5, 0.5, 1.0])
    assert sum(particle.area for particle in corrected.found.segmentation.particles) == 842
    corrected.edit("delete", [(20, 10)], 1)
    assert [particle.id for particle in corrected.found.segmentation.particles] == [1, 2, 3]
    for _ in range(3):
        corrected.edit("undo", [], 1)
    assert [particle.score for particle in corrected.found.segmentation.particles] == pytest.approx([0.9, 0.5])
    assert np.array_equal(corrected.found.segmentation.labels, corrected_pair().found.segmentation.labels)


def test_all_particles_may_be_deleted():
    corrected = corrected_pair()
    corrected.edit("delete", [(20, 10)], 1)
    corrected.edit("delete", [(20, 40)], 1)
    assert corrected.found.segmentation.particles == [] and not corrected.found.segmentation.labels.any()


@pytest.mark.parametrize(
    ("kind", "points"), [("delete", []), ("merge", [(20, 10)]), ("burn", [(1, 1)]), ("undo", []), ("delete", [(1, 1)])]
)
def test_an_edit_that_cannot_be_is_refused_and_changes_nothing(kind, points):
    corrected = corrected_pair()
    with pytest.raises(InputError):
        corrected.edit(kind, points, 5)
    assert corrected.edits == 0 and len(corrected.found.segmentation.particles) == 2


def test_typed_points_are_x_and_y():
    assert parse_points(" 12,40.5  3,4") == [(40.5, 12.0), (4.0, 3.0)]
    for typed in ("12", "a,b", "1,2,3", "nan,1"):
        with pytest.raises(InputError, match="is no point"):
            parse_points(typed)


def test_edits_from_two_threads_are_all_done():
    corrected = corrected_pair()

    def draw(top):
        for left in range(1, 50, 12):
            corner = [(top, left), (top, left + 3), (top + 3, left + 3), (top + 3, left)]
            corrected.edit("polygon", corner, 1)

    threads = [threading.Thread(target=draw, args=(top,)) for top in (1, 5, 32, 36)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert corrected.edits == 20 and len(corrected.found.segmentation.particles) == 22
    for _ in range(20):
        corrected.edit("undo", [], 1)
    assert np.array_equal(corrected.found.segmentation.labels, corrected_pair().found.segmentation.labels)
