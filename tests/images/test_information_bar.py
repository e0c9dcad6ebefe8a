import io
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sempre.images import (
    crop_information_bar,
    find_information_bar,
    percentile_normalise,
    read_labels,
    read_micrograph,
)
from sempre.synthetic import render_field
from tests.images.databars import LAYOUTS
from tests.images.emps import FOLDER, needs_emps


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


@cache
def small_field(seed: int) -> np.ndarray:
    return render_field(seed, (192, 256)).pixels


def photographed(field: np.ndarray, bar: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A field with a databar below it, saved as a JPEG at times."""
    image = np.concatenate([field, bar])
    if random.random() < 0.5:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(random.integers(75, 96)))
        image = np.asarray(Image.open(file))
    return image


@pytest.mark.parametrize("vendor", LAYOUTS)
def test_the_bars_of_the_vendors_are_found(vendor):
    found = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        width = int(random.integers(640, 1281))
        shape = width, int(width * random.uniform(0.6, 0.9))
        field = np.asarray(Image.fromarray(small_field(seed % 4)).resize(shape, Image.Resampling.BICUBIC))
        bar = LAYOUTS[vendor](width, int(width * random.uniform(0.08, 0.2)), "2 µm").pixels
        top = find_information_bar(photographed(field, bar, random))
        assert top >= len(field), f"{vendor} {seed}: {len(field) - top} rows of the field are cut off"
        found += top <= len(field) + 3  # a frame's line may stay
    assert found >= 19, f"{vendor}: {found} of 20"


def test_a_scale_bar_on_a_smooth_field_is_no_information_bar():
    random = np.random.default_rng(0)
    field = 60 + random.normal(0, 3, (512, 640))
    field[497:] = 60 + random.normal(0, 0.8, (15, 640))
    image = Image.fromarray(field.round().astype(np.uint8))
    ImageDraw.Draw(image).rectangle((120, 498, 500, 508), fill=255)
    assert find_information_bar(np.asarray(image)) == 512


@needs_emps
def test_no_labelled_pixel_of_emps_is_cut():
    found = 0
    for path in sorted((FOLDER / "images").iterdir()):
        pixels = read_micrograph(path).pixels
        top = find_information_bar(pixels)
        found += top < len(pixels)
        assert not read_labels(FOLDER / "segmaps" / path.name)[top:].any(), path.stem
    assert found >= 35  # of the databars that are there
