import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sempre.errors import InputError
from sempre.images import (
    is_blank,
    percentile_normalise,
    percentile_normalise_to_uint8,
    percentile_range,
    to_uint8,
)
from sempre.metrics import aji_plus
from sempre.segmentation.watershed import otsu_watershed
from sempre.synthetic import FieldOptions, render_field


@pytest.mark.parametrize("percentiles", [(1, 99), (2, 98), (5, 95)])
def test_the_percentiles_become_black_and_white(percentiles):
    pixels = np.random.default_rng(0).normal(1000, 50, (200, 200))
    grey = percentile_normalise(pixels, *percentiles)
    low, high = np.percentile(pixels, percentiles)
    np.testing.assert_allclose(grey, np.clip((pixels - low) / (high - low), 0, 1), atol=1e-5)
    assert (grey == 0).mean() == pytest.approx(percentiles[0] / 100, abs=0.001)


@given(arrays(np.float32, (4, 5), elements=st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])))
def test_any_pixels_give_finite_grey_values(pixels):
    grey = percentile_normalise(pixels)
    assert grey.dtype == np.float32
    assert np.isfinite(grey).all()
    assert grey.min() >= 0
    assert grey.max() <= 1


@given(
    arrays(np.uint8, (5, 7)) | arrays(np.uint16, (3, 4)),
    st.sampled_from([(1, 99), (2, 98), (5, 95), (0, 100), (40, 60)]),
)
def test_few_levels_are_normalised_like_many(pixels, percentiles):
    expected = percentile_normalise(pixels.astype(np.int64), *percentiles)
    np.testing.assert_allclose(percentile_normalise(pixels, *percentiles), expected, rtol=1e-6, atol=1e-7)
    as_bytes = percentile_normalise_to_uint8(pixels, *percentiles)
    assert as_bytes.dtype == np.uint8
    np.testing.assert_array_equal(as_bytes, to_uint8(percentile_normalise(pixels, *percentiles)))


def test_a_few_hot_pixels_do_not_darken_the_rest():
    pixels = np.random.default_rng(0).integers(100, 200, (100, 100)).astype(np.uint16)
    hot = pixels.copy()
    hot[0, :10] = 65535
    np.testing.assert_allclose(percentile_normalise(hot)[1:], percentile_normalise(pixels)[1:], atol=0.02)


def test_a_constant_image_is_black():
    assert not percentile_normalise(np.full((4, 4), 7, np.uint8)).any()


def test_grey_values_are_rounded():
    np.testing.assert_array_equal(to_uint8(np.array([-1, 0, 0.5, 1, 2])), [0, 0, 128, 255, 255])


@pytest.mark.parametrize("dark", [False, True])
def test_the_watershed_separates_touching_discs(dark):
    rows, columns = np.ogrid[:120, :160]
    true = np.zeros((120, 160), np.int32)
    for label, x in enumerate((40, 78, 116), start=1):
        true[(rows - 60) ** 2 + (columns - x) ** 2 <= 20**2] = label
    pixels = np.where(true > 0, 0.8, 0.2) + np.random.default_rng(0).normal(0, 0.05, true.shape)
    assert aji_plus(true, otsu_watershed(1 - pixels if dark else pixels)) > 0.9


def test_the_watershed_of_nothing_is_nothing():
    assert not otsu_watershed(np.full((32, 32), 0.4)).any()


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float64])
def test_grey_values_far_from_zero_keep_their_levels(dtype):
    levels = np.arange(200).reshape(10, 20)
    np.testing.assert_allclose(
        percentile_normalise((levels + 2**30).astype(dtype)), percentile_normalise(levels), atol=1e-6
    )


@pytest.mark.parametrize("pixels", [np.full((4, 5), 7, np.uint8), np.full((4, 5), np.nan), np.ones((4, 5), bool)])
def test_a_single_grey_value_is_blank(pixels):
    assert is_blank(pixels)


def test_an_image_with_values_is_not_blank():
    pixels = np.full((4, 5), np.nan)
    pixels[0, :2] = 1, 2
    assert not is_blank(pixels)
    assert not is_blank(np.array([[0, 1]], np.uint16))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("dark", [False, True])
def test_the_noise_of_a_sparse_field_does_not_fill_the_range(dtype, dark):
    pixels = np.random.default_rng(0).normal(100, 6, (300, 300))
    pixels[100:116, 100:116] += 120  # 0.3 % of the field
    grey = percentile_normalise((255 - pixels if dark else pixels).clip(0, 255).astype(dtype))
    ground = grey[:90]
    assert ground.std() < 0.12, "over all levels it would be 0.21"
    assert abs(grey[102:114, 102:114].mean() - np.median(ground)) > 0.6
    np.testing.assert_allclose(percentile_normalise(to_uint8(grey)), grey, atol=0.01)  # as bundles are scored


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_sparse_field_of_three_equal_colours_is_normalised_as_one_of_grey(dtype):
    pixels = np.random.default_rng(0).normal(100, 6, (300, 310))
    pixels[100:116, 100:116] += 120
    pixels = pixels.clip(0, 255).astype(dtype)
    colours = np.repeat(pixels[..., None], 3, axis=2)
    expected = np.repeat(percentile_normalise(pixels)[..., None], 3, axis=2)
    np.testing.assert_allclose(percentile_normalise(colours), expected, atol=0.01)


def test_what_is_normalised_twice_is_normalised_once():
    field = render_field(3, (256, 256), FieldOptions(magnification="low", count=3)).pixels
    once = percentile_normalise_to_uint8(field)
    assert np.abs(percentile_normalise_to_uint8(once).astype(int) - once).max() <= 2


def test_a_dense_field_is_normalised_by_its_percentiles_alone():
    field = render_field(4, (256, 256), FieldOptions(magnification="medium", arrangement="packed", count=200)).pixels
    low, high = np.percentile(field, (1, 99))
    np.testing.assert_allclose(percentile_normalise(field), np.clip((field - low) / (high - low), 0, 1), atol=1e-5)


@pytest.mark.parametrize("numbers", [[99, 1], [1], [-1, 99], [5, 101]])
def test_what_is_no_range_of_percentiles_is_refused(numbers):
    with pytest.raises(InputError, match="are no range: give two rising numbers"):
        percentile_range(numbers)
    assert percentile_range([5, 95]) == (5.0, 95.0)
