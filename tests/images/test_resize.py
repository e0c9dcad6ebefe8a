import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempre.images.resize import boxes_between, pick_at_centres, resize


@given(st.integers(8, 40), st.integers(8, 40), st.sampled_from([0.25, 0.5, 1.0, 2.0]))
def test_means_and_shapes_follow_the_scale(height, width, scale):
    pixels = np.random.default_rng(0).random((height, width)).astype(np.float32)
    smaller = resize(pixels, scale)
    assert smaller.shape == (round(height * scale), round(width * scale))
    assert smaller.dtype == np.float32
    assert smaller.mean() == pytest.approx(pixels.mean(), abs=0.08)


def test_a_ramp_stays_where_it_is():
    ramp = np.tile(np.arange(64, dtype=np.float32) + 0.5, (8, 1))  # a pixel's centre
    half = resize(ramp, 0.5)
    np.testing.assert_allclose(half[0, 2:-2], (np.arange(32) * 2 + 1)[2:-2], atol=1e-3)


def test_boxes_go_there_and_back():
    boxes = np.array([[2.0, 4.0, 10.0, 20.0]], np.float32)
    there = boxes_between(boxes, (100, 50), (50, 100))
    np.testing.assert_allclose(there, [[4, 2, 20, 10]])
    np.testing.assert_allclose(boxes_between(there, (50, 100), (100, 50)), boxes)


def test_every_px_takes_the_value_at_its_centre():
    values = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(pick_at_centres(values, (4, 6)), np.kron(values, np.ones((2, 2), int)))
    np.testing.assert_array_equal(pick_at_centres(values, (2, 3)), values)
    np.testing.assert_array_equal(pick_at_centres(np.arange(5)[None], (1, 3))[0], [0, 2, 4])
