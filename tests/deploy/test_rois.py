import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from roifile import ImagejRoi
from skimage.draw import polygon2mask

from sempre.deploy.rois import boundary_loops, write_rois

masks = arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any)


def fill(polygons, shape):
    """Even-odd fill of pixel centres by scikit-image, whose coordinates are (row, column) of centres."""
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        inside ^= polygon2mask(shape, np.asarray(polygon, float)[:, ::-1] - 0.5)
    return inside


@settings(deadline=None, max_examples=200)
@given(masks)
def test_polygons_enclose_exactly_the_pixels(mask):
    loops = boundary_loops(mask)
    assert all(np.issubdtype(loop.dtype, np.integer) for loop in loops)
    np.testing.assert_array_equal(fill(loops, mask.shape), mask)
    signed = 0.0
    for loop in loops:  # the shoelace formula: outer polygons count positive, holes negative
        x, y = loop.T
        signed += (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2
    assert signed == mask.sum()


@settings(deadline=None)
@given(masks)
def test_polygons_have_corners_only(mask):
    for loop in boundary_loops(mask):
        steps = np.sign(np.roll(loop, -1, axis=0) - loop)
        assert (np.abs(steps).sum(axis=1) == 1).all()
        assert (steps != np.roll(steps, 1, axis=0)).any(axis=1).all()


def test_areas_in_imagej_are_those_of_the_labels(tmp_path):
    y, x = np.ogrid[:120, :150]
    labels = np.zeros((120, 150), np.int32)
    labels[(x - 40) ** 2 + (y - 50) ** 2 <= 30**2] = 1
    labels[(x - 40) ** 2 + (y - 50) ** 2 <= 9**2] = 0  # a ring
    labels[100:120, 130:150] = 2
    labels[110, 140] = 3
    labels[5:9, 100:104] = labels[9:12, 104:106] = labels[20:25, 90:99] = 5  # three pieces; there is no 4
    write_rois(tmp_path / "some_rois.zip", labels)
    rois = ImagejRoi.fromfile(tmp_path / "some_rois.zip")
    assert [roi.name for roi in rois] == ["00001", "00002", "00003", "00005"]
    for roi in rois:
        instance = labels == int(roi.name)
        np.testing.assert_array_equal(fill(roi.coordinates(multi=True), labels.shape), instance)
        rows, columns = np.nonzero(instance)
        assert (roi.left, roi.top) == (columns.min(), rows.min())
        assert (roi.right, roi.bottom) == (columns.max() + 1, rows.max() + 1)
    assert [path.name for path in tmp_path.iterdir()] == ["some_rois.zip"]


def test_no_particles_give_an_empty_archive(tmp_path):
    write_rois(tmp_path / "none.zip", np.zeros((5, 5), np.int32))
    assert ImagejRoi.fromfile(tmp_path / "none.zip") == []


def test_the_same_particles_give_the_same_bytes(tmp_path, monkeypatch):
    labels = np.kron(np.array([[1, 0], [0, 2]]), np.ones((4, 4), int))
    files = []
    for moment in (1.5e9, 1.6e9):
        monkeypatch.setattr("time.time", lambda moment=moment: moment)
        write_rois(tmp_path / "a.zip", labels)
        files.append((tmp_path / "a.zip").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("left", "top"), [(40_000, 0), (60_530, 3), (66_000, 0), (3, 70_000), (131_000, 0), (0, 65_530)]
)
@pytest.mark.parametrize("kind", ["disc", "ring", "pieces"])
def test_rois_far_from_the_corner(tmp_path, left, top, kind):
    y, x = np.ogrid[:21, :21]
    mask = (x - 10) ** 2 + (y - 10) ** 2 <= 100
    mask &= {"disc": x >= 0, "ring": (x - 10) ** 2 + (y - 10) ** 2 > 16, "pieces": (x < 7) | (x > 13)}[kind]
    labels = np.zeros((top + 25, left + 25), np.uint8)
    labels[top : top + 21, left : left + 21][mask] = 1
    write_rois(tmp_path / "a_rois.zip", labels)
    (roi,) = ImagejRoi.fromfile(tmp_path / "a_rois.zip")
    loops = [loop - (left, top) for loop in imagej_loops(tmp_path / "a_rois.zip")]
    np.testing.assert_array_equal(fill(loops, mask.shape), mask)
    np.testing.assert_array_equal(fill([c - (left, top) for c in roi.coordinates(multi=True)], mask.shape), mask)


def test_rois_of_more_than_65535_px(tmp_path):
    labels = np.zeros((40, 70_000), np.uint8)
    labels[5:30, 100:69_900] = 1
    labels[2:5, 100:200] = 1
    write_rois(tmp_path / "a_rois.zip", labels)
    (loop,) = imagej_loops(tmp_path / "a_rois.zip")
    assert loop[:, 0].max() == 69_900 and loop[:, 0].min() == 100
    x, y = loop.T
    assert abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2 == labels.sum()


def imagej_loops(path):
    """The polygons of the one ROI in a ZIP, by the rules of ImageJ's `ij.io.RoiDecoder`.

    A 16-bit number below -5000 is unsigned, any other signed; floats of subpixel resolution count in their place.
    """
    with zipfile.ZipFile(path) as archive:
        data = archive.read(archive.namelist()[0])

    def short(at):
        (number,) = struct.unpack_from(">h", data, at)
        return number + 65536 if number < -5000 else number

    version, top, left, count, options = (short(at) for at in (4, 8, 10, 16, 50))
    (composite,) = struct.unpack_from(">i", data, 36)
    if composite:
        path, loops = list(struct.unpack_from(f">{composite}f", data, 64)), []
        while path:
            kind = path.pop(0)
            if kind == 4:
                continue
            if kind == 0:
                loops.append([])
            loops[-1].append((path.pop(0), path.pop(0)))
        return [np.array(loop) for loop in loops]
    if options & 128 and version >= 222:
        xy = np.frombuffer(data, ">f4", 2 * count, 64 + 4 * count).reshape(2, count)
        return [xy.T.astype(float)]
    numbers = [max(short(64 + 2 * index), 0) for index in range(2 * count)]
    return [np.array([numbers[:count], numbers[count:]], float).T + np.array([left, top])]
