"""The pixel size of a TIFF is that of the page that is read, not of a thumbnail before it."""

import numpy as np
import pytest
import tifffile

from sempre.images import read_micrograph

FULL = np.random.default_rng(0).integers(0, 255, (96, 128), np.uint8)
SMALL = FULL[::8, ::8]
SERIAL_EM = "SerialEM: digitized as a montage"


def write(path, *pages):
    with tifffile.TiffWriter(path) as writer:
        for pixels, options in pages:
            writer.write(pixels, photometric="minisblack", metadata=None, **options)
    return path


def in_cm(nm: float, **more) -> dict:
    """A resolution in cm by a program that calibrates, for pixels of `nm` nm."""
    return {"resolution": (1e7 / nm, 1e7 / nm), "resolutionunit": "CENTIMETER", "software": SERIAL_EM, **more}


def imagej(nm: float) -> dict:
    return {"resolution": (1 / nm, 1 / nm), "description": "ImageJ=1.54f\nunit=nm\n"}


@pytest.mark.parametrize("full", [in_cm(2.5), imagej(2.5)], ids=["resolution", "ImageJ"])
@pytest.mark.parametrize("before", [{}, in_cm(20), imagej(20)], ids=["no size", "resolution", "ImageJ"])
def test_a_thumbnail_before_the_micrograph_does_not_give_the_size(tmp_path, before, full):
    path = write(tmp_path / "a.tif", (SMALL, {**before, "subfiletype": 1}), (FULL, full))
    micrograph = read_micrograph(path)
    assert micrograph.pixels.shape == FULL.shape
    assert micrograph.pixel_size_nm == pytest.approx(2.5)


def test_the_size_of_a_thumbnail_alone_is_no_size(tmp_path):
    path = write(tmp_path / "a.tif", (SMALL, {**in_cm(20), "subfiletype": 1}), (FULL, {}))
    assert read_micrograph(path).pixel_size_nm is None


def test_each_page_of_a_stack_has_its_own_size(tmp_path):
    path = write(tmp_path / "a.tif", (FULL, in_cm(2.5)), (255 - FULL, in_cm(5)))
    assert read_micrograph(path).pixel_size_nm == pytest.approx(2.5)
    assert read_micrograph(path, page=2).pixel_size_nm == pytest.approx(5)


def test_what_stands_on_the_first_page_holds_for_pages_as_large(tmp_path):
    path = write(tmp_path / "a.tif", (FULL, imagej(2.5)), (255 - FULL, {}))
    assert read_micrograph(path, page=2).pixel_size_nm == pytest.approx(2.5)
