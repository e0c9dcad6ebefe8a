import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.measure import regionprops
from skimage.morphology import convex_hull_image

from sempre.segmentation.particles import measure_particles, particle_row, write_csv
from sempre.segmentation.shapes import feret_diameters, solidity

masks = arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any)


def all_corners(mask):
    y, x = np.nonzero(mask)
    return np.unique(np.concatenate([np.stack([x + i, y + j], 1) for i in (0, 1) for j in (0, 1)]), axis=0)


@settings(deadline=None)
@given(masks)
def test_feret_diameters_by_brute_force(mask):
    corners = all_corners(mask).astype(float)
    largest, smallest = feret_diameters(mask)
    differences = corners[:, None] - corners[None]
    assert largest == pytest.approx(np.hypot(*np.moveaxis(differences, -1, 0)).max())
    # the smallest width is met along a line through two corners: try all of them
    directions = differences.reshape(-1, 2)[np.abs(differences).reshape(-1, 2).any(axis=1)]
    normals = np.stack([-directions[:, 1], directions[:, 0]], axis=1) / np.hypot(*directions.T)[:, None]
    assert smallest == pytest.approx(np.ptp(corners @ normals.T, axis=0).min())
    angles = np.linspace(0, np.pi, 50)
    widths = np.ptp(corners @ np.stack([np.cos(angles), np.sin(angles)]), axis=0)
    assert smallest <= widths.min() + 1e-9 and largest >= widths.max() - 1e-9


@settings(deadline=None)
@given(masks)
def test_measures_agree_with_scikit_image(mask):
    labels = np.pad(mask, 2).astype(np.int32)
    (particle,) = measure_particles(labels, np.array([0.75]))
    (region,) = regionprops(labels)
    assert particle.area == region.area
    assert particle.equivalent_diameter == pytest.approx(region.equivalent_diameter_area)
    assert (particle.y - 0.5, particle.x - 0.5) == pytest.approx(region.centroid)
    assert particle.circularity == pytest.approx(4 * np.pi * region.area / particle.perimeter**2)
    # It takes pixels for points; squares have a second moment of their own.
    assert particle.ellipse_major**2 - 16 / 12 == pytest.approx(region.axis_major_length**2, abs=1e-6)
    assert particle.ellipse_minor**2 - 16 / 12 == pytest.approx(region.axis_minor_length**2, abs=1e-6)
    top, left, bottom, right = region.bbox
    assert (particle.box_width, particle.box_height) == (right - left, bottom - top)
    if np.linalg.matrix_rank(region.coords - region.coords[0]) == 2:  # of a line it says infinity
        hull = convex_hull_image(labels > 0, offset_coordinates=False)
        assert particle.solidity == pytest.approx(region.area / hull.sum())
    assert 0 < particle.convexity <= 1 and 0 < particle.roundness <= 1.2732396 and 0 < particle.feret_ratio <= 1
    assert particle.aspect_ratio >= 1 and particle.feret_max >= particle.feret_min > 0
    assert not particle.touches_border


def test_a_disc_is_round():
    y, x = np.ogrid[:101, :101]
    labels = ((x - 50) ** 2 + (y - 50) ** 2 <= 40**2).astype(np.int32)
    (disc,) = measure_particles(labels, np.array([1.0]))
    assert disc.equivalent_diameter == pytest.approx(80, rel=0.01)
    assert disc.feret_max == pytest.approx(81, abs=0.5) and disc.feret_min == pytest.approx(81, abs=0.6)
    assert disc.circularity == pytest.approx(1, abs=0.01) and disc.aspect_ratio == pytest.approx(1, abs=0.01)


def test_a_bar():
    labels = np.zeros((30, 60), np.int32)
    labels[10:20, 5:45] = 1
    (bar,) = measure_particles(labels, np.array([0.5]))
    assert (bar.x, bar.y, bar.feret_min) == (25, 15, 10)
    assert bar.feret_max == pytest.approx(np.hypot(10, 40))
    assert bar.aspect_ratio == pytest.approx(4)  # exact, as pixels are unit squares


def test_a_single_pixel_at_the_border():
    labels = np.zeros((4, 5), np.int32)
    labels[3, 2] = 1
    (pixel,) = measure_particles(labels, np.array([0.5]))
    assert (pixel.area, pixel.feret_min, pixel.aspect_ratio, pixel.solidity, pixel.convexity) == (1, 1, 1, 1, 1)
    assert pixel.circularity == pytest.approx(1, abs=0.05)
    assert pixel.touches_border


def test_csv_in_px_and_nm(tmp_path):
    labels = np.zeros((30, 60), np.int32)
    labels[10:20, 5:45] = 1
    labels[25:, 50:] = 2
    particles = measure_particles(labels, np.array([0.9, 0.8]))
    write_csv(tmp_path / "nm.csv", particles, pixel_size_nm=2.5)
    rows = list(csv.DictReader((tmp_path / "nm.csv").open()))
    assert [row["id"] for row in rows] == ["1", "2"] and [row["touches_border"] for row in rows] == ["0", "1"]
    assert (float(rows[0]["area_px2"]), float(rows[0]["area_nm2"])) == (400, 2500)
    assert (float(rows[0]["feret_min_px"]), float(rows[0]["feret_min_nm"])) == (10, 25)
    assert (float(rows[0]["x_nm"]), float(rows[0]["y_nm"])) == (62.5, 37.5)
    write_csv(tmp_path / "px.csv", particles)
    assert not any(name.endswith(("nm", "nm2")) for name in next(csv.reader((tmp_path / "px.csv").open())))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nm.csv", "px.csv"]


def test_csv_of_no_particles_has_a_header(tmp_path):
    write_csv(tmp_path / "none.csv", measure_particles(np.zeros((5, 5), np.int32), np.zeros(0)), 1.0)
    (header,) = csv.reader((tmp_path / "none.csv").open())
    assert {"id", "score", "x_px", "area_nm2", "circularity"} <= set(header)


def test_solidity_is_the_share_of_the_convex_hull():
    assert solidity(np.ones((1, 1), bool)) == pytest.approx(1)
    assert solidity(np.ones((7, 3), bool)) == pytest.approx(1)
    angle = np.zeros((10, 10), bool)
    angle[:, :2] = angle[-2:] = True
    assert solidity(angle) == pytest.approx(36 / (100 - 8 * 8 / 2))


@settings(deadline=None)
@given(masks, st.integers(2, 4))
def test_tall_pixels_measure_as_columns_of_square_ones(mask, tall):
    (stretched,) = measure_particles(np.pad(mask, 1).astype(np.int32), np.ones(1), (2.5, 2.5 * tall))
    (whole,) = measure_particles(np.pad(mask.repeat(tall, axis=0), 1).astype(np.int32), np.ones(1), 2.5)
    row, same = particle_row(stretched, (2.5, 2.5 * tall)), particle_row(whole, 2.5)
    for name in ("area_nm2", "equivalent_diameter_nm", "feret_max_nm", "feret_min_nm", "aspect_ratio"):
        assert float(row[name]) == pytest.approx(float(same[name]), rel=1e-4)
    assert float(row["area_px2"]) == mask.sum()


@pytest.mark.parametrize("size", [(2.5, 5.0), (6.0, 2.0), (1.0, 1.5)])
def test_a_disc_is_round_whatever_its_pixels(size, tmp_path):
    (x_nm, y_nm), radius = size, 100.0
    rows, columns = int(260 / y_nm), int(260 / x_nm)
    y, x = (np.arange(rows) + 0.5)[:, None] * y_nm, (np.arange(columns) + 0.5) * x_nm
    labels = ((x - 130) ** 2 + (y - 130) ** 2 <= radius**2).astype(np.int32)
    particles = measure_particles(labels, np.ones(1), size)
    write_csv(tmp_path / "a.csv", particles, size)
    (row,) = csv.DictReader((tmp_path / "a.csv").open())
    assert float(row["equivalent_diameter_nm"]) == pytest.approx(200, rel=0.01)
    assert float(row["feret_max_nm"]) == pytest.approx(200, rel=0.04)
    assert float(row["feret_min_nm"]) == pytest.approx(200, rel=0.04)
    assert float(row["area_nm2"]) == pytest.approx(np.pi * radius**2, rel=0.02)
    assert float(row["aspect_ratio"]) == pytest.approx(1, abs=0.03)
    assert float(row["circularity"]) == pytest.approx(1, abs=0.02)
    assert float(row["perimeter_nm"]) == pytest.approx(2 * np.pi * radius, rel=0.01)
    assert (float(row["x_nm"]), float(row["y_nm"])) == pytest.approx((130, 130), abs=1)


def test_pixels_that_differ_by_less_than_one_percent_are_square():
    labels = np.zeros((30, 60), np.int32)
    labels[10:20, 5:45] = 1
    (bar,) = measure_particles(labels, np.ones(1), (2.5, 2.51))
    assert bar.feret_max_nm is None and particle_row(bar, (2.5, 2.51)) == particle_row(bar, 2.5)


def test_an_information_bar_is_a_border():
    labels = np.zeros((100, 60), np.int32)
    for number, row in enumerate((8, 30, 60, 70), start=1):  # bars take the rows up to 10 and from 80 on
        labels[row : row + 9, 10 * number : 10 * number + 9] = number
    cut = [particle.touches_border for particle in measure_particles(labels, np.ones(4), field=(10, 80))]
    assert cut == [True, False, False, True]
    assert not any(particle.touches_border for particle in measure_particles(labels, np.ones(4)))
