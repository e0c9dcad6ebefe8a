"""Measures against shapes whose outlines are known, at any angle and any place on the grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ellipe
from skimage.measure import perimeter_crofton

from sempre.segmentation.particles import Particle, measure_particles
from sempre.segmentation.shapes import hull_of

ANGLES = np.radians([0, 7, 20, 33, 45, 58, 71, 83])


def rendered(inside, half, random, tall=1.0) -> np.ndarray:
    """A label image of the pixels whose centres are inside a shape about the origin, at a random place on the grid.

    `inside(x, y)` takes and `half` is in widths of a pixel; pixels are `tall` times as high.
    """
    columns, rows = int(half) + 3, int(half / tall) + 3
    y, x = np.mgrid[-rows : rows + 1, -columns : columns + 1]
    x_shift, y_shift = random.uniform(-0.5, 0.5, 2)
    return inside(x + x_shift, tall * (y + y_shift)).astype(np.int32)


def ellipse(major, minor, angle):
    """Of whole axes; its perimeter too."""
    cos, sin = np.cos(angle), np.sin(angle)

    def inside(x, y):
        return ((x * cos + y * sin) * 2 / major) ** 2 + ((y * cos - x * sin) * 2 / minor) ** 2 <= 1

    return inside, 2 * major * ellipe(1 - (minor / major) ** 2)


def rectangle(length, width, angle):
    cos, sin = np.cos(angle), np.sin(angle)

    def inside(x, y):
        return (np.abs(x * cos + y * sin) <= length / 2) & (np.abs(y * cos - x * sin) <= width / 2)

    return inside, 2 * (length + width)


def many(shape, major, minor, tall=1.0) -> tuple[list[Particle], float]:
    """The shape at every angle and five places, measured; and its perimeter."""
    random = np.random.default_rng(0)
    size = None if tall == 1 else (1.0, tall)
    particles, around = [], 0.0
    for angle in ANGLES:
        inside, around = shape(major, minor, angle)
        for _ in range(5):
            labels = rendered(inside, np.hypot(major, minor) / 2, random, tall)
            particles += measure_particles(labels, np.ones(1), size)
    return particles, around


@pytest.mark.parametrize("diameter", [5, 8, 13, 30, 100])
@pytest.mark.parametrize("ratio", [1, 1.28, 2, 4])
def test_perimeter_and_circularity_of_ellipses_are_unbiased(diameter, ratio):
    particles, around = many(ellipse, diameter * np.sqrt(ratio), diameter / np.sqrt(ratio))
    lengths = np.array([particle.perimeter for particle in particles])
    thick = diameter / np.sqrt(ratio) >= 5  # px
    assert lengths.mean() == pytest.approx(around, rel=0.01 if thick else 0.06)
    circularities = np.array([particle.circularity for particle in particles])
    true = np.pi**2 * diameter**2 / around**2
    assert circularities.mean() == pytest.approx(true, rel=0.015 if thick else 0.14)
    if ratio >= 1.28 and diameter >= 13:
        assert circularities.max() < 1, "no ellipse is as round as a disc"


@pytest.mark.parametrize("side", [20, 50, 120])
def test_squares_are_measured_alike_at_every_angle(side):
    particles, around = many(rectangle, side, side)
    lengths = np.array([particle.perimeter for particle in particles])
    assert lengths == pytest.approx(around, rel=0.05 if side < 40 else 0.025)
    four_directions = [
        perimeter_crofton(np.pad(rendered(rectangle(side, side, angle)[0], side, np.random.default_rng(1)), 1), 4)
        for angle in ANGLES
    ]
    assert np.std(lengths) < 0.6 * np.std(four_directions)


@pytest.mark.parametrize("tall", [0.5, 1.6, 3.0])
def test_pixels_that_are_not_square_make_no_difference(tall):
    particles, around = many(ellipse, 60, 30, tall)
    shape = 4 * np.pi * np.pi * 60 * 30 / 4 / around**2
    expected = {"perimeter_nm": around, "ellipse_major_nm": 60, "ellipse_minor_nm": 30, "circularity": shape}
    for name, value in (expected | {"eccentricity": np.sqrt(0.75)}).items():
        found = np.array([getattr(particle, name) for particle in particles], float)
        assert found.mean() == pytest.approx(value, rel=0.02), name


@pytest.mark.parametrize(("shape", "major", "minor"), [(ellipse, 40, 40), (ellipse, 60, 20), (rectangle, 30, 12)])
def test_convex_shapes_are_convex_and_solid(shape, major, minor):
    for particle in many(shape, major, minor)[0]:
        assert (particle.convexity, particle.solidity) == (1, 1), "their pixels are all of their hull's"
        assert particle.feret_ratio == pytest.approx(particle.feret_min / particle.feret_max)
        assert particle.roundness == pytest.approx(4 * particle.area / np.pi / particle.feret_max**2)


def test_a_star_is_neither_convex_nor_solid():
    y, x = np.mgrid[-60:61, -60:61]
    radius = 40 * (1 + 0.4 * np.cos(5 * np.arctan2(y, x)))
    (star,) = measure_particles((np.hypot(x, y) <= radius).astype(np.int32), np.ones(1))
    angles = np.linspace(0, 2 * np.pi, 100_001)
    around = 40 * (1 + 0.4 * np.cos(5 * angles)) * np.stack([np.cos(angles), np.sin(angles)])
    length = np.hypot(*np.diff(around)).sum()
    assert star.perimeter == pytest.approx(length, rel=0.01)
    tips = 56 * np.array([[np.cos(angle), np.sin(angle)] for angle in 2 * np.pi * np.arange(5) / 5])
    hull = np.hypot(*(tips - np.roll(tips, 1, axis=0)).T).sum()
    assert star.convexity == pytest.approx(hull / length, rel=0.05)
    assert star.solidity < 0.85


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_the_hull_holds_the_pixels_and_is_convex(seed):
    random = np.random.default_rng(seed)
    mask = random.random(random.integers(1, 14, 2)) < 0.4
    mask[0, random.integers(mask.shape[1])] = mask[-1, random.integers(mask.shape[1])] = True
    hull = hull_of(mask)
    whole = np.zeros_like(mask)
    found = hull.mask()
    whole[:, : found.shape[1]] = found
    assert np.all(whole[mask]) and hull.area == whole.sum()
    again = hull_of(whole)
    assert np.array_equal(again.mask(), found)


def test_turning_a_particle_by_a_right_angle_changes_no_measure():
    random = np.random.default_rng(3)
    mask = np.pad(random.random((9, 14)) < 0.7, 1)
    (one,) = measure_particles(mask.astype(np.int32), np.ones(1))
    (other,) = measure_particles(np.rot90(mask).astype(np.int32), np.ones(1))
    for name in ("perimeter", "circularity", "ellipse_major", "solidity", "convexity", "roundness", "feret_ratio"):
        assert getattr(one, name) == pytest.approx(getattr(other, name)), name
    assert (one.box_width, one.box_height) == (other.box_height, other.box_width)
