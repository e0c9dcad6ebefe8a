import numpy as np
import pytest
from PIL import Image, ImageDraw

from sempre.images import crop_information_bar, find_information_bar, percentile_normalise
from sempre.images.synthetic import render_field


def with_bar(pixels: np.ndarray, height: int, ground: int, ink: int, frame: int = 0) -> np.ndarray:
    bar = Image.new("L", (pixels.shape[1], height), ground)
    draw = ImageDraw.Draw(bar)
    draw.text((8, height // 4), "HV 5.00 kV   mag 20 000 x   WD 4.1 mm", fill=ink)
    draw.rectangle((pixels.shape[1] - 120, height // 2, pixels.shape[1] - 20, height // 2 + 3), fill=ink)
    if frame:
        draw.rectangle((0, height - frame, pixels.shape[1], height), fill=ink)
    return np.concatenate([pixels, np.asarray(bar)])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("ground", "ink", "frame"), [(0, 255, 0), (255, 0, 0), (12, 230, 2)])
def test_a_bar_is_found_to_the_row(seed, ground, ink, frame):
    pixels = render_field(seed, (384, 512)).pixels
    image = with_bar(pixels, 40, ground, ink, frame)
    assert find_information_bar(image) == 384
    np.testing.assert_array_equal(crop_information_bar(image), pixels)


@pytest.mark.parametrize("seed", range(20))
def test_a_micrograph_without_bar_is_left_alone(seed):
    pixels = render_field(seed, (256, 256)).pixels
    assert crop_information_bar(pixels) is not None
    assert find_information_bar(pixels) == 256


def test_other_types_and_degenerate_images():
    pixels = render_field(0, (384, 512)).pixels
    image = with_bar(pixels, 40, 0, 255)
    assert find_information_bar(image.astype(np.uint16) * 257) == 384
    assert find_information_bar(percentile_normalise(image, 0, 100)) == 384
    assert find_information_bar(np.zeros((100, 100), np.uint8)) == 100
    assert find_information_bar(np.zeros((5, 5), np.uint8)) == 5
    dark = np.random.default_rng(0).poisson(2, (300, 300)).astype(np.uint8)
    assert find_information_bar(dark) == 300
