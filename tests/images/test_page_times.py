"""Times of pages, compared with what tifffile was told to write."""

from datetime import datetime, timedelta

import numpy as np
import pytest
import tifffile

from sempre.images.page_times import page_times
from sempre.images.read import count_pages

FRAMES = np.random.default_rng(0).integers(0, 255, (4, 40, 50)).astype(np.uint8)


def test_imagej_says_the_interval_of_frames(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, FRAMES, imagej=True, metadata={"axes": "TYX", "finterval": 0.25})
    assert page_times(path) == [0, 0.25, 0.5, 0.75]
    slices = FRAMES.reshape(2, 2, 40, 50)
    tifffile.imwrite(path, slices, imagej=True, metadata={"axes": "TZYX", "finterval": 3})
    assert page_times(path) == [0, 0, 3, 3], "slices of a frame have its time"
    tifffile.imwrite(path, FRAMES, imagej=True, metadata={"axes": "TYX", "finterval": 250, "tunit": "ms"})
    assert page_times(path) == pytest.approx([0, 0.25, 0.5, 0.75])
    tifffile.imwrite(path, FRAMES, imagej=True, metadata={"axes": "ZYX", "finterval": 3})
    assert page_times(path) == [None] * 4, "slices are no time series"


def test_ome_says_the_increment_or_the_time_of_each_plane(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, FRAMES, metadata={"axes": "TYX", "TimeIncrement": 0.5, "TimeIncrementUnit": "min"})
    assert page_times(path) == [0, 30, 60, 90]
    seconds = [10.0, 10.7, 12.0, 15.5]
    tifffile.imwrite(path, FRAMES, metadata={"axes": "TYX", "TimeIncrement": 9.0, "Plane": {"DeltaT": seconds}})
    assert page_times(path) == pytest.approx([0, 0.7, 2, 5.5]), "since the first page"
    units = {"DeltaT": seconds, "DeltaTUnit": ["ms"] * 4}
    tifffile.imwrite(path, FRAMES, metadata={"axes": "TYX", "Plane": units})
    assert page_times(path) == pytest.approx([0, 0.0007, 0.002, 0.0055])
    stack = FRAMES.reshape(2, 2, 40, 50)
    tifffile.imwrite(path, stack, metadata={"axes": "TZYX", "TimeIncrement": 2.0, "TimeIncrementUnit": "s"})
    assert page_times(path) == [0, 0, 2, 2]
    tifffile.imwrite(path, stack, metadata={"axes": "ZTYX", "TimeIncrement": 2.0, "TimeIncrementUnit": "s"})
    assert page_times(path) == [0, 2, 0, 2]


def test_dates_of_the_pages(tmp_path):
    path, begin = tmp_path / "a.tif", datetime(2026, 11, 30, 23, 59, 50)

    def write(seconds):
        with tifffile.TiffWriter(path) as file:
            for frame, second in zip(FRAMES, seconds, strict=True):
                date = None if second is None else begin + timedelta(seconds=second)
                file.write(frame, datetime=date, metadata=None, contiguous=False)

    write([0, 8, 20, 3600])
    assert page_times(path) == [0, 8, 20, 3600]
    write([0, None, 20, 30])
    assert page_times(path) == [0, None, 20, 30]
    write([5, 5, 5, 5])
    assert page_times(path) == [None] * 4, "the date of the file, not of its pages"


@pytest.mark.parametrize(
    "text",
    [
        '<OME><Image><Pixels SizeZ="1" SizeC="1" SizeT="4" TimeIncrement="nan"/></Image></OME>',
        '<OME><Image><Pixels SizeZ="1" SizeC="1" SizeT="99999999999999" TimeIncrement="1"/></Image></OME>',
        '<OME><Image><Pixels SizeZ="1" SizeC="1" SizeT="4" TimeIncrement="1" TimeIncrementUnit="pc"/></Image></OME>',
        '<OME><Image><Pixels SizeZ="1" SizeC="1" SizeT="4" DimensionOrder="XYTTT" TimeIncrement="1"/></Image></OME>',
        '<!DOCTYPE a [<!ENTITY x "1">]><OME><Pixels SizeZ="1" SizeC="1" SizeT="4" TimeIncrement="&x;"/></OME>',
        "<OME><Image><Pixels",
    ],
)
def test_damaged_metadata_say_no_time(tmp_path, text):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as file:
        for number, frame in enumerate(FRAMES):
            file.write(frame, description=text if number == 0 else "", metadata=None, contiguous=False)
    assert page_times(path) == [None] * count_pages(path) == [None] * 4


def test_files_that_cannot_be_read_and_other_formats_say_nothing(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0broken")
    (tmp_path / "a.png").write_bytes(b"")
    assert page_times(tmp_path / "a.tif") == page_times(tmp_path / "a.png") == page_times(tmp_path / "no.tif") == []
