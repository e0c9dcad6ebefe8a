"""Correct by hand on the page Segment, save what was corrected, and improve the model on it."""

from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import tifffile

from sempre.data.labelled import LabelledSet
from sempre.deploy.segmenter import Segmenter
from sempre.images.write import write_micrograph
from sempre.synthetic.known_defects import render_sample
from tests.app.test_browser_segment import downloaded, segmented

pytestmark = pytest.mark.browser
SIDE = 256  # px of the micrographs


def correcting(page, micrograph):
    page.set_viewport_size({"width": 1280, "height": 2200})  # all of the page, for a mouse does not scroll
    segmented(page, micrograph)
    page.get_by_text("Correct by hand").click()
    page.get_by_role("button", name="Merge", exact=True).wait_for()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.wait_for_timeout(1500)  # until the picture lies where it stays


class Hand:
    """A hand that works in px of the micrograph."""

    def __init__(self, page):
        self.page, self.canvas = page, page.locator("canvas[tabindex]")

    def take(self, tool):
        self.page.get_by_role("button", name=tool, exact=True).click()

    def place(self, x, y):
        box = self.canvas.bounding_box()
        scale = min(box["width"], box["height"]) / SIDE
        return box["x"] + x * scale, box["y"] + y * scale

    def click(self, x, y):
        self.page.mouse.click(*self.place(x, y))

    def drag(self, *points):
        self.page.mouse.move(*self.place(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.place(*point), steps=8)
        self.page.mouse.up()

    def counts(self, number):
        self.page.wait_for_function(
            f"document.querySelector('[data-testid=stMetricValue]')?.innerText === '{number}'", timeout=60_000
        )


def particles_of(page, folder):
    """The label image that the page gives, once it has computed all."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.wait_for_timeout(500)
    return tifffile.imread(downloaded(page, "Labels (TIFF)", folder))


def test_delete_merge_split_add_and_undo_and_the_statistics_follow(page, particles, tmp_path):
    correcting(page, particles)
    before = particles_of(page, tmp_path)
    count = int(before.max())
    hand = Hand(page)
    covered = page.locator("[data-testid=stMetricValue]").nth(2).inner_text()

    def middle(number):
        y, x = np.nonzero(before == number)
        return x.mean() + 0.5, y.mean() + 0.5

    areas = np.bincount(before.ravel())[1:]
    roundest = [number for number in range(1, count + 1) if before[tuple(np.int64(middle(number))[::-1])] == number]
    first, second, third = roundest[:3]

    hand.click(*middle(first))
    hand.counts(count - 1)
    assert not (particles_of(page, tmp_path)[before == first]).any()
    assert page.locator("[data-testid=stMetricValue]").nth(2).inner_text() != covered

    hand.take("Merge")
    hand.click(*middle(second))
    hand.click(*middle(third))
    hand.counts(count - 2)
    merged = particles_of(page, tmp_path)
    assert len(np.unique(merged[(before == second) | (before == third)])) == 1

    hand.take("Split")
    x, y = middle(second)
    reach = 1 + np.sqrt(areas[second - 1])
    hand.drag((x, y - reach), (x, y + reach))
    hand.counts(count - 1)
    parts = particles_of(page, tmp_path)
    assert len(np.unique(parts[before == second])) == 2
    assert np.array_equal(parts > 0, merged > 0)

    free = np.argwhere(np.lib.stride_tricks.sliding_window_view(before, (40, 40)).max(axis=(2, 3)) == 0)
    top, left = free[len(free) // 2]
    hand.take("Polygon")
    for corner in [(left + 4, top + 4), (left + 20, top + 4), (left + 20, top + 20), (left + 4, top + 20)]:
        hand.click(*corner)
    page.keyboard.press("Enter")
    hand.counts(count)
    drawn = particles_of(page, tmp_path)
    new = np.unique(drawn[(before == 0) & (drawn > 0)])[-1]
    y, x = np.nonzero(drawn == new)
    assert abs(x.mean() + 0.5 - left - 12) < 1 and abs(y.mean() + 0.5 - top - 12) < 1 and abs(len(x) - 256) < 40

    hand.take("Brush")
    hand.drag((left + 30, top + 6), (left + 30, top + 34))
    hand.counts(count + 1)
    page.get_by_text("5 edits").wait_for()

    for left_over in (count, count - 1, count - 2, count - 1, count):
        hand.take("Undo")
        hand.counts(left_over)
    assert np.array_equal(particles_of(page, tmp_path), before)
    assert {urlsplit(url).hostname for url in page.asked if url.startswith(("http", "ws"))} == {"localhost"}


def test_quick_clicks_are_all_done_and_a_miss_gets_a_sentence(page, particles, tmp_path):
    correcting(page, particles)
    before = particles_of(page, tmp_path)
    hand, count = Hand(page), int(before.max())
    places = [np.argwhere(before == number).mean(axis=0)[::-1] for number in range(1, 5)]
    for x, y in places:
        hand.click(x + 0.5, y + 0.5)
    hand.counts(count - 4)
    y, x = np.argwhere(before == 0)[0]
    hand.click(x + 0.5, y + 0.5)
    page.get_by_text("there is no particle at").wait_for()
    page.get_by_role("button", name="Start over").click()
    hand.counts(count)


def test_corrections_by_keyboard(page, particles, tmp_path):
    correcting(page, particles)
    before = particles_of(page, tmp_path)
    y, x = np.argwhere(before == 1).mean(axis=0)
    page.get_by_text("Corrections by keyboard").click()
    page.get_by_role("textbox", name="Points").fill(f"{x:.1f},{y:.1f}")
    page.get_by_role("button", name="Apply").click()
    Hand(page).counts(int(before.max()) - 1)


@pytest.mark.slow
def test_corrected_micrographs_are_saved_and_improve_the_model(page, tmp_path):
    labelled = tmp_path / "labelled"
    hand = Hand(page)
    numbers = (1, 3, 5)
    micrographs = [tmp_path / f"field_{number}.tif" for number in numbers]
    for number, micrograph in zip(numbers, micrographs, strict=True):
        write_micrograph(micrograph, render_sample("particles", number, (SIDE, SIDE)).pixels, 5.0)
    correcting(page, micrographs)
    page.get_by_role("textbox", name="Labelled set").fill(str(labelled))
    page.keyboard.press("Enter")
    for number in numbers:
        page.get_by_role("combobox", name="Micrograph").click()
        page.get_by_role("option", name=f"field_{number}.tif").click()
        page.get_by_text(f"field_{number}.tif, 1 px is").wait_for()
        page.get_by_text("micrographs are in the labelled set").wait_for()
        labels = particles_of(page, tmp_path)
        y, x = np.argwhere(labels == 1).mean(axis=0)
        hand.click(x + 0.5, y + 0.5)
        hand.counts(int(labels.max()) - 1)
        page.get_by_role("button", name="Save to the labelled set").click()
        page.get_by_text(f"field_{number} is saved in").wait_for()
        saved = tifffile.imread(labelled / f"labels/field_{number}.tif")
        assert np.array_equal(saved > 0, (labels > 0) & (labels != 1))
    assert LabelledSet(labelled).names == ["field_1", "field_3", "field_5"]

    minutes = page.get_by_role("spinbutton", name="Minutes to train")
    minutes.fill("0.1")
    minutes.press("Tab")
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Improve the model").click()
    page.get_by_role("button", name="Cancel the training").click()
    page.get_by_text("improved_1 was cancelled").wait_for(timeout=90_000)
    page.get_by_role("button", name="Go on with the training").click()
    page.get_by_text("improved_1 is in the list of models").wait_for(timeout=480_000)
    bundle = Path(labelled / "runs/improved_1/bundle")
    assert Segmenter(bundle).segment(np.zeros((64, 64), np.uint8)).labels.shape == (64, 64)
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="improved_1 (labelled)").click()
    page.get_by_role("button", name="Segment", exact=True).click()
    page.get_by_text("Particles score more than").wait_for()
