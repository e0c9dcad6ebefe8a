import numpy as np
import pytest
import tifffile

from sempre.images import read_micrograph
from sempre.images.volume import open_volume
from sempre.images.write import write_channels, write_label_volume, write_micrograph


@pytest.mark.parametrize("pixel_size_nm", [None, 0.25, 3.7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pixels_and_pixel_size_are_read_back(tmp_path, pixel_size_nm, dtype):
    pixels = np.arange(63).reshape(7, 9).astype(dtype)
    write_micrograph(tmp_path / "a.tif", pixels, pixel_size_nm)
    read = read_micrograph(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.pixels, pixels)
    assert read.pixel_size_nm == (None if pixel_size_nm is None else pytest.approx(pixel_size_nm, rel=1e-5))


def test_colours_are_read_back(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (7, 9, 3), dtype=np.uint8)
    write_micrograph(tmp_path / "a.tif", pixels, 12.5)
    read = read_micrograph(tmp_path / "a.tif", colour=True)
    np.testing.assert_array_equal(read.pixels, pixels)
    assert read.pixel_size_nm == pytest.approx(12.5, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_channels_are_imagejs(tmp_path, dtype):
    channels = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(dtype)
    write_channels(tmp_path / "a.tif", channels, 3.0)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.imagej_metadata["channels"] == 4
        assert file.series[0].axes == "CYX"
        np.testing.assert_array_equal(file.asarray(), channels)
    assert read_micrograph(tmp_path / "a.tif").pixel_size_nm == pytest.approx(3.0, rel=1e-5)


@pytest.mark.parametrize("size", [(2.5, 5.0), (8.0, 0.5)])
def test_pixels_that_are_not_square_are_read_back(tmp_path, size):
    write_micrograph(tmp_path / "a.tif", np.zeros((7, 9), np.uint8), size)
    assert read_micrograph(tmp_path / "a.tif").pixel_size == pytest.approx(size, rel=1e-5)
    slices = iter(np.zeros((3, 7, 9), np.uint16))
    write_label_volume(tmp_path / "a.ome.tif", slices, (3, 7, 9), 1, size, 20.0)
    volume = open_volume(tmp_path / "a.ome.tif")
    assert (volume.pixel_size_nm, volume.pixel_size_y_nm, volume.slice_distance_nm) == pytest.approx((*size, 20.0))
