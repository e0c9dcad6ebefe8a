import numpy as np
import pytest

from sempre.images import read_micrograph
from sempre.images.write import write_micrograph


@pytest.mark.parametrize("pixel_size_nm", [None, 0.25, 3.7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pixels_and_pixel_size_are_read_back(tmp_path, pixel_size_nm, dtype):
    pixels = np.arange(63).reshape(7, 9).astype(dtype)
    write_micrograph(tmp_path / "a.tif", pixels, pixel_size_nm)
    read = read_micrograph(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.pixels, pixels)
    assert read.pixel_size_nm == (None if pixel_size_nm is None else pytest.approx(pixel_size_nm, rel=1e-5))
