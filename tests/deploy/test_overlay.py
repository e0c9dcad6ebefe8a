import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from sempre.deploy.overlay import (
    SCALE_BAR_SHARE,
    colours,
    draw_overlay,
    scale_bar_length,
    scale_bar_text,
    write_overlay,
)


def scene(shape):
    labels = np.zeros(shape, np.int32)
    labels[20:60, 30:90] = 1
    labels[60:100, 30:90] = 2
    return np.linspace(0, 1000, labels.size).reshape(shape).astype(np.uint16), labels


def coloured(picture):
    return np.ptp(picture.astype(int), axis=2) > 0


def test_outlines_lie_on_border_pixels_and_hide_nothing_else():
    pixels, labels = scene((1200, 1300))
    picture = draw_overlay(pixels, labels)
    assert picture.shape == (1200, 1300, 3) and picture.dtype == np.uint8
    lines = coloured(picture)
    assert lines[20, 30:90].all() and lines[59, 30:90].all() and lines[60, 30:90].all()
    assert not lines[labels == 0].any() and not lines[23:57, 33:87].any()
    assert (picture[20, 50] == colours(2)[1]).all() and (picture[99, 50] == colours(2)[2]).all()


def test_small_micrographs_are_shown_at_twice_their_size():
    picture = draw_overlay(*scene((150, 200)))
    assert picture.shape == (300, 400, 3)
    assert coloured(picture)[40, 60:180].all() and not coloured(picture)[42:118, 62:178].any()


def test_very_large_micrographs_are_shown_smaller():
    labels = np.zeros((500, 9000), np.int32)
    labels[100:400, 100:400] = 1
    picture = draw_overlay(labels, labels)
    assert picture.shape == (167, 3000, 3) and coloured(picture).any()


def test_the_scale_bar_is_as_long_as_it_says():
    pixels = np.zeros((1200, 1500), np.uint8)
    picture = draw_overlay(pixels, np.zeros(pixels.shape, np.int32), pixel_size_nm=2.0)
    white = (picture == 255).all(axis=2)
    assert white.sum(axis=1).max() == 250  # 500 nm, at most a fifth of 3000 nm
    assert not draw_overlay(pixels, np.zeros(pixels.shape, np.int32)).any()


@given(st.floats(1e-2, 1e9))
def test_scale_bars_are_round_and_fit(width_nm):
    length = scale_bar_length(width_nm)
    assert SCALE_BAR_SHARE * width_nm / 2.6 < length <= SCALE_BAR_SHARE * width_nm * (1 + 1e-9)
    assert scale_bar_text(length).split()[0].strip("0.")[:1] in ("1", "2", "5")


@pytest.mark.parametrize(("nm", "text"), [(500, "500 nm"), (2000, "2 µm"), (1e6, "1 mm"), (0.5, "500 pm")])
def test_scale_bar_text(nm, text):
    assert scale_bar_text(nm) == text


def test_writes_a_png_even_of_tiny_micrographs(tmp_path):
    write_overlay(tmp_path / "tiny_overlay.png", np.zeros((3, 4)), np.ones((3, 4), np.int32), 1.0)
    assert Image.open(tmp_path / "tiny_overlay.png").size == (8, 6)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_picture_too_narrow_for_a_scale_bar_gets_none():
    """Two px wide, the bar would be half a px long."""
    pixels, labels = np.arange(16, dtype=np.uint8).reshape(8, 2), np.zeros((8, 2), np.int32)
    assert np.array_equal(draw_overlay(pixels, labels, 5.0), draw_overlay(pixels, labels, None))


def written(numbered, plain):
    """The boxes y0, y1, x0, x1 of what is written on a picture, from the left."""
    changed = (numbered != plain).any(axis=2)
    pieces, _ = ndimage.label(ndimage.binary_dilation(changed, iterations=4))
    boxes = [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in ndimage.find_objects(pieces)]
    return sorted(boxes, key=lambda box: box[2]), changed


def test_numbers_stand_inside_or_beside_their_particles():
    labels = np.zeros((1200, 1300), np.int32)
    labels[100:200, 100:200] = 7  # there is room inside
    labels[100:106, 600:606] = 12  # beside
    pixels = np.full(labels.shape, 100, np.uint8)
    (inside, beside), _ = written(draw_overlay(pixels, labels, numbered=True), draw_overlay(pixels, labels))
    assert inside[0] > 100 and inside[1] < 200 and inside[2] > 100 and inside[3] < 200
    assert (inside[0] + inside[1]) / 2 == pytest.approx(150, abs=4)
    assert (inside[2] + inside[3]) / 2 == pytest.approx(150, abs=4)
    assert 598 < beside[2] < 612 and beside[3] < 640 and 90 < beside[0] < 110


def test_numbers_hide_no_particle_and_no_other_number():
    random = np.random.default_rng(0)
    labels = np.zeros((1100, 1100), np.int32)
    for number in range(1, 300):
        y, x = random.integers(0, 1080, 2)
        side = random.integers(4, 60)
        part = labels[y : y + side, x : x + side]
        part[part == 0] = number
    pixels = np.full(labels.shape, 100, np.uint8)
    _, changed = written(draw_overlay(pixels, labels, numbered=True), draw_overlay(pixels, labels))
    pieces, count = ndimage.label(changed, np.ones((3, 3)))
    assert count > 50
    for piece in range(1, count + 1):
        assert len(np.unique(labels[pieces == piece])) == 1, "a number stands in one particle or on ground alone"


def test_the_number_is_the_one_of_the_table():
    one, other = np.zeros((1200, 1300), np.int32), np.zeros((1200, 1300), np.int32)
    one[100:300, 100:300], other[100:300, 100:300] = 1, 2
    pixels = np.full(one.shape, 100, np.uint8)
    first, second = (draw_overlay(pixels, labels, numbered=True)[140:260, 140:260] for labels in (one, other))
    assert not np.array_equal(first, second)
    ((_, _, left, right),), _ = written(draw_overlay(pixels, 7 * one, numbered=True), draw_overlay(pixels, 7 * one))
    ((_, _, start, end),), _ = written(draw_overlay(pixels, 11 * one, numbered=True), draw_overlay(pixels, 11 * one))
    assert end - start > right - left


def test_a_picture_of_full_size():
    labels = np.zeros((500, 9000), np.int32)
    labels[100:400, 100:400] = 1
    assert draw_overlay(labels, labels, full_size=True).shape == (500, 9000, 3)
    assert draw_overlay(labels[:, :800], labels[:, :800], full_size=True).shape == (1000, 1600, 3)
