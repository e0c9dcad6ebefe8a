from dataclasses import replace

import numpy as np
import pytest

from sempre.data.labelled import LabelledMicrograph
from sempre.report.judged_overlay import (
    FALSE,
    FOUND,
    LABELS,
    LINE,
    MISSED,
    SIDE,
    draw_judged_overlay,
    draw_labels_overlay,
    judge,
)


def disc(size: int, y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[:size, :size]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def micrograph(layers: np.ndarray, grey: int = 120) -> LabelledMicrograph:
    areas = sum(np.bincount(layer.ravel(), minlength=layers.max() + 1) for layer in layers)
    return LabelledMicrograph(np.full(layers.shape[1:], grey, np.uint8), layers, areas)


def scene(size: int) -> tuple[LabelledMicrograph, np.ndarray]:
    """A disc that is found, one px off, in the upper left; one missed at the right; one invented below."""
    true, predicted = np.zeros((2, size, size), np.int32)
    true[disc(size, 0.25 * size, 0.25 * size, 0.15 * size)] = 1
    true[disc(size, 0.25 * size, 0.75 * size, 0.15 * size)] = 2
    predicted[disc(size, 0.25 * size, 0.25 * size + 1, 0.15 * size)] = 7
    predicted[disc(size, 0.75 * size, 0.25 * size, 0.15 * size)] = 9
    return micrograph(true[None]), predicted


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture[:SIDE] == colour).all(axis=2)


@pytest.mark.parametrize("size", [100, 1600])
def test_each_outline_is_in_the_colour_of_its_judgement(size):
    picture = draw_judged_overlay(*scene(size))
    assert picture.dtype == np.uint8 and picture.shape[1] == SIDE and picture.shape[0] > SIDE
    for colour, (y, x) in ((FOUND, (250, 250)), (MISSED, (250, 750)), (FALSE, (750, 250))):
        drawn = np.argwhere(has(picture, colour))
        away = np.hypot(*(drawn - (y, x)).T)
        assert len(drawn) > 500
        assert (abs(away - 150) < 25).all(), "on its own disc's border, and nowhere else"
        assert (picture[y, x] == 120).all(), "nothing hides what is inside"


def test_found_ones_have_their_predicted_outline_and_missed_ones_the_true_one():
    shown, predicted = scene(100)
    picture = draw_judged_overlay(shown, predicted)
    columns = np.flatnonzero(has(picture, FOUND).any(axis=0))
    assert columns.mean() == pytest.approx(10 * (25 + 1 + 0.5), abs=2)
    columns = np.flatnonzero(has(picture, MISSED).any(axis=0))
    assert columns.mean() == pytest.approx(10 * (75 + 0.5), abs=2)


def test_lines_are_as_wide_in_small_micrographs_as_in_large_ones():
    covered = [has(draw_judged_overlay(*scene(size)), MISSED).sum() for size in (100, 1600)]
    assert covered[0] == pytest.approx(covered[1], rel=0.15)
    assert covered[1] == pytest.approx(2 * np.pi * 150 * LINE, rel=0.35)


def test_many_small_particles_have_thin_lines_and_stay_visible():
    true = np.zeros((1000, 1000), np.int32)
    centres = [(y, x) for y in range(50, 1000, 100) for x in range(50, 1000, 100)]
    for label, (y, x) in enumerate(centres, start=1):
        true[y - 2 : y + 3, x - 2 : x + 3] = label
    picture = draw_judged_overlay(micrograph(true[None], grey=200), true)
    for y, x in centres:
        assert (picture[y, x] == 200).all()
        assert has(picture, FOUND)[y - 8 : y + 9, x - 8 : x + 9].any()


def test_instances_that_overlap_are_judged_one_by_one():
    layers = np.zeros((2, 100, 100), np.int32)
    layers[0][disc(100, 50, 40, 20)], layers[1][disc(100, 50, 60, 20)] = 1, 2
    predicted = np.where(layers[0] > 0, 5, 0)
    judgement = judge(micrograph(layers), predicted)
    assert (judgement.found.tolist(), judgement.missed.tolist(), judgement.false.tolist()) == ([5], [2], [])
    drawn = np.argwhere(has(draw_judged_overlay(micrograph(layers), predicted), MISSED))
    assert (abs(np.hypot(*(drawn - (505, 605)).T) - 200) < 16).all()


def test_the_edge_of_a_micrograph_is_no_outline():
    true = np.zeros((100, 100), np.int32)
    true[:, :50] = 1
    picture = draw_judged_overlay(micrograph(true[None]), np.zeros_like(true))
    drawn = np.argwhere(has(picture, MISSED))
    assert (abs(drawn[:, 1] - 500) < 5).all()


def test_labels_are_white_and_empty_ones_leave_the_micrograph_as_it_is():
    assert has(draw_labels_overlay(scene(100)[0]), LABELS).sum() > 1000
    nothing = np.zeros((60, 90), np.int32)
    for picture in (
        draw_labels_overlay(micrograph(nothing[None])),
        draw_judged_overlay(micrograph(nothing[None]), nothing),
    ):
        assert (picture[: round(SIDE * 60 / 90)] == 120).all()


def test_a_scale_bar_is_as_long_as_the_pixel_size_says():
    nothing = np.zeros((400, 500), np.int32)
    of_known_scale = replace(micrograph(nothing[None]), pixel_size_nm=4.0)  # 2,000 nm wide
    picture = draw_judged_overlay(of_known_scale, nothing)[: SIDE * 400 // 500]
    white = np.flatnonzero((picture == 255).all(axis=2).sum(axis=1) == 100)  # 200 nm
    assert len(white) >= 3 and white.min() > 700
