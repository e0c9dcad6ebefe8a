import numpy as np
import pytest

from sempre.deploy.segmenter import Segmenter
from sempre.errors import InputError
from sempre.images import PixelSize


def square(shape, x, y, side, dark=100, bright=4000, dtype=np.uint16):
    pixels = np.full(shape, dark, dtype)
    pixels[y : y + side, x : x + side] = bright
    return pixels


def test_finds_and_measures_a_square(bright_box_bundle):
    segmentation = Segmenter(bright_box_bundle, threads=1).segment(square((120, 150), 30, 40, 50), pixel_size_nm=2.0)
    (particle,) = segmentation.particles
    assert segmentation.labels.shape == (120, 150) and segmentation.labels.dtype == np.int32
    assert segmentation.labels[41:89, 31:79].all() and segmentation.labels.max() == 1
    assert not segmentation.labels[:38].any() and not segmentation.labels[:, 82:].any()
    assert (particle.x, particle.y) == pytest.approx((55, 65), abs=1)
    assert particle.area == (segmentation.labels == 1).sum() and particle.score == pytest.approx(0.9)
    assert segmentation.pixel_size_nm == 2.0


@pytest.mark.parametrize("size", [(2.0, 6.0), [2.0, 6.0], PixelSize(2.0, 6.0)])
def test_a_pixel_size_in_x_and_y(bright_box_bundle, size):
    segmentation = Segmenter(bright_box_bundle, threads=1).segment(square((120, 150), 30, 40, 50), size)
    (particle,) = segmentation.particles
    assert (segmentation.pixel_size_nm, segmentation.pixel_size_y_nm) == (2.0, 6.0)
    assert particle.aspect_ratio == pytest.approx(3, rel=0.03)
    assert particle.feret_max_nm == pytest.approx(np.hypot(100, 300), rel=0.03)


@pytest.mark.parametrize("size", [0.0, -2.0, float("nan"), (2.0, 0.0), (1.0, 2.0, 3.0)])
def test_what_is_no_pixel_size(bright_box_bundle, size):
    with pytest.raises(InputError, match="is no pixel size: give nm per pixel, above 0, or a pair"):
        Segmenter(bright_box_bundle, threads=1).segment(square((60, 70), 20, 20, 20), size)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64, bool])
def test_any_type_of_pixel(bright_box_bundle, dtype):
    pixels = square((60, 70), 20, 20, 20, dark=0, bright=1, dtype=dtype)
    assert len(Segmenter(bright_box_bundle, threads=1).segment(pixels).particles) == 1


def test_the_threshold_decides(bright_box_bundle):
    segmenter = Segmenter(bright_box_bundle, threads=1)
    pixels = square((60, 70), 20, 20, 20)
    assert len(segmenter.segment(pixels, score_threshold=0.89).particles) == 1
    assert not segmenter.segment(pixels, score_threshold=0.91).labels.any()


def test_an_empty_micrograph(bright_box_bundle):
    segmentation = Segmenter(bright_box_bundle, threads=1).segment(np.full((60, 70), 7, np.uint8))
    assert segmentation.particles == [] and not segmentation.labels.any()


def test_large_micrographs_go_through_tiles(bright_box_bundle):
    pixels = square((128, 500), 200, 40, 24)
    pixels[60:70, 30:40] = 4000  # the model finds one box in what it sees: two only if it sees them apart
    assert len(Segmenter(bright_box_bundle, threads=1).segment(pixels).particles) == 1
    segmentation = Segmenter(bright_box_bundle, threads=1, tile=128).segment(pixels)
    assert len(segmentation.particles) == 2
    assert segmentation.labels[52, 212] and segmentation.labels[65, 35] and not segmentation.labels[65, 100]


def test_grey_values_are_normalised_over_the_whole_micrograph(bright_box_bundle):
    pixels = square((128, 500), 10, 40, 60)
    pixels[:, 400:] += 20  # by itself this would be the brightest of its tile
    assert len(Segmenter(bright_box_bundle, threads=1, tile=128).segment(pixels).particles) == 1


@pytest.mark.parametrize("shape", [(10,), (10, 10, 3), (0, 5)])
def test_pixels_must_be_grey(bright_box_bundle, shape):
    with pytest.raises(InputError, match="grey micrograph"):
        Segmenter(bright_box_bundle, threads=1).segment(np.zeros(shape))


def test_unusable_options(bright_box_bundle):
    with pytest.raises(InputError, match="threads"):
        Segmenter(bright_box_bundle, threads=0)
    with pytest.raises(InputError, match="tile"):
        Segmenter(bright_box_bundle, tile=10)
    with pytest.raises(InputError, match="threshold"):
        Segmenter(bright_box_bundle, threads=1).segment(np.zeros((9, 9)), score_threshold=1.5)


def test_a_model_that_is_none(any_bundle):
    with pytest.raises(InputError, match="cannot be loaded"):
        Segmenter(any_bundle())


def test_the_network_sees_the_scale_given_by_hand(bright_box_bundle):
    pixels = square((120, 150), 30, 40, 50)
    for scale in (0.25, 3.0):
        segmentation = Segmenter(bright_box_bundle, threads=1, scale=scale).segment(pixels)
        assert segmentation.labels.shape == (120, 150)
        assert segmentation.particles[0].area == pytest.approx(2500, rel=0.2)
    with pytest.raises(InputError, match="the scale 0 cannot be"):
        Segmenter(bright_box_bundle, scale=0)


def test_progress_is_told_tile_by_tile(bright_box_bundle):
    told = []
    Segmenter(bright_box_bundle, threads=1, tile=128).segment(
        square((300, 500), 200, 40, 24), progress=lambda looks, of: told.append((looks, of))
    )
    expected = told[0][1]
    assert expected > 10 and told == [(looks, expected) for looks in range(1, expected + 1)]
