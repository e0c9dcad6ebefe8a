import numpy as np
import pytest

from sempre.deploy.bundle import read_bundle
from sempre.deploy.scale import check_scale, find_pixel_size, scale_warning, seen_scales, square_warning
from sempre.deploy.segmenter import Segmenter
from sempre.errors import InputError
from sempre.images import Micrograph, PixelSize
from sempre.images.resize import resize_to
from tests.deploy.conftest import bright_box_model, write_bundle

DECODING = {"foreground": 0.5, "marker": 0.5, "smallest": 12, "least_score": 0.5, "least_depth": 0.5}


def test_a_detector_sees_a_micrograph_at_the_pixel_size_that_it_was_trained_on(any_bundle):
    bundle = read_bundle(
        any_bundle(pixel_size_nm=2.0, input={"percentiles": [1, 99], "low": 0, "high": 1, "scale": 0.5})
    )
    assert seen_scales(bundle, 2.0) == (0.5,)
    assert seen_scales(bundle, 1.0) == (0.25,)  # more px for each nm: reduced
    assert seen_scales(bundle, 4.0) == (1.0,)
    assert seen_scales(bundle, None) == (0.5,) and scale_warning(bundle, None) is None
    assert seen_scales(bundle, 4.0, by_hand=0.75) == (0.75,)


def test_a_pixel_size_too_far_away_is_a_warning(any_bundle):
    bundle = read_bundle(any_bundle(pixel_size_nm=2.0))
    assert seen_scales(bundle, 200.0) == (1.0,)
    assert "its 200 nm per px are too far from the model's 2 " in scale_warning(bundle, 200.0)
    assert scale_warning(bundle, 4.0) is None and scale_warning(bundle, 200.0, by_hand=1.0) is None


def test_a_dense_segmenter_of_several_scales_chooses_by_itself(any_bundle):
    bundle = read_bundle(any_bundle(kind="dense", scales=[0.5, 1.0], decoding=DECODING, pixel_size_nm=2.0))
    assert seen_scales(bundle, 200.0) == (0.5, 1.0) and scale_warning(bundle, 200.0) is None
    assert seen_scales(bundle, None, by_hand=0.25) == (0.25,)


def test_a_dense_segmenter_of_one_scale_does_not(any_bundle):
    bundle = read_bundle(any_bundle(kind="dense", scales=[1.0], decoding=DECODING, pixel_size_nm=2.0))
    assert seen_scales(bundle, 4.0) == (2.0,)


@pytest.mark.parametrize("scale", [0, -1, 17, float("nan")])
def test_scales_that_cannot_be(scale):
    with pytest.raises(InputError, match="give how many times its size"):
        check_scale(scale)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_results_are_in_px_of_the_micrograph_whatever_was_seen(tmp_path, scale):
    pixels = np.full((120, 150), 20, np.uint8)
    pixels[40:90, 30:80] = 200
    other = resize_to(pixels, (round(120 * scale), round(150 * scale)))
    bundle = write_bundle(tmp_path / "bundle", bright_box_model(), pixel_size_nm=2.0)
    (particle,) = Segmenter(bundle, threads=1).segment(other, pixel_size_nm=2.0 / scale).particles
    assert (particle.x, particle.y) == pytest.approx((55 * scale, 65 * scale), abs=2)
    assert particle.equivalent_diameter == pytest.approx(56.4 * scale, rel=0.08)


class Read:
    """In the place of a reader: counts how often it is asked."""

    asked = 0

    def lengths(self, grey):
        self.asked += 1
        return []


@pytest.mark.parametrize("aspect", [0.5, 2.0, 1.2])
def test_no_scale_bar_is_read_where_pixels_are_said_not_to_be_square(aspect):
    micrograph, reader = Micrograph(np.zeros((200, 200), np.uint8), pixel_aspect=aspect), Read()
    assert find_pixel_size(micrograph, None, reader) == (None, "")
    assert reader.asked == 0
    assert "no scale bar is read" in square_warning(micrograph, None, None)
    assert "the pixel size given says that they are" in square_warning(micrograph, PixelSize(2, 2), 2.0)
    assert "2 nm wide and 3 nm high" in square_warning(micrograph, PixelSize(2, 3), (2, 3))


@pytest.mark.parametrize("aspect", [1.0, 1.005])
def test_a_scale_bar_is_read_where_pixels_are_square(aspect):
    micrograph, reader = Micrograph(np.zeros((200, 200), np.uint8), pixel_aspect=aspect), Read()
    assert find_pixel_size(micrograph, None, reader) == (None, "") and reader.asked == 1
    assert square_warning(micrograph, None, None) is None
