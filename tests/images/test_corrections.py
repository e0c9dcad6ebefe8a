"""Edits of a label image against brute force, pixel by pixel."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.path import Path

from sempre.errors import InputError
from sempre.images import corrections
from sempre.images.corrections import Corrections


def discs(*circles, shape=(60, 80)):
    """A label image of circles (y, x, radius), later ones on top."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    labels = np.zeros(shape, np.int32)
    for number, (row, column, radius) in enumerate(circles, 1):
        labels[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = number
    return labels


def pieces(mask):
    """How many pieces, connected by edges or corners, a mask has: a flood fill."""
    left, count = set(zip(*np.nonzero(mask), strict=True)), 0
    while left:
        count += 1
        stack = [left.pop()]
        while stack:
            y, x = stack.pop()
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    stack.append(near)
    return count


TWO = discs((30, 20, 12), (30, 50, 10))


def test_delete_takes_one_particle_and_leaves_the_rest():
    edited = corrections.delete(TWO, (30.2, 20.7))
    assert np.array_equal(edited, np.where(TWO == 1, 0, TWO))
    assert TWO[30, 20] == 1 and edited.dtype == TWO.dtype  # what was given stays


@pytest.mark.parametrize("point", [(1, 1), (-3, 20), (30, 80), (60, 20)])
def test_a_click_on_no_particle_is_refused(point):
    with pytest.raises(InputError, match=r"no particle|not on the micrograph"):
        corrections.delete(TWO, point)


def test_merge_fills_a_narrow_gap_alone():
    labels = np.zeros((20, 40), np.int32)
    labels[5:15, 4:15], labels[5:15, 17:30], labels[5:8, 33:38] = 1, 2, 3
    edited = corrections.merge(labels, (10, 20), (10, 6))
    assert set(np.unique(edited)) == {0, 2, 3}
    expected = np.where(labels == 1, 2, labels)
    expected[5:15, 15:17] = 2
    assert np.array_equal(edited, expected)
    far = corrections.merge(labels, (10, 20), (6, 35))  # 3 px apart
    assert far[6, 31] == 2
    apart = corrections.merge(TWO, (30, 20), (30, 50))
    assert np.array_equal(apart, np.minimum(TWO, 1))
    with pytest.raises(InputError, match="same particle"):
        corrections.merge(TWO, (30, 20), (31, 20))


def test_merge_never_takes_a_third_particles_pixels():
    labels = np.zeros((12, 20), np.int32)
    labels[2:10, 2:8], labels[2:10, 10:16], labels[2:10, 8:10] = 1, 2, 3
    assert np.array_equal(corrections.merge(labels, (5, 3), (5, 12)) == 3, labels == 3)


@pytest.mark.parametrize("seed", range(12))
def test_a_straight_line_splits_by_the_side_that_pixels_lie_on(seed):
    generator = np.random.default_rng(seed)
    labels = discs((30, 40, 22))
    angle, offset = generator.uniform(0, np.pi), generator.uniform(-8, 8)
    along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    middle = np.array([30, 40]) + offset * across
    edited = corrections.split(labels, [tuple(middle - 27 * along), tuple(middle + 27 * along)])
    assert set(np.unique(edited)) == {0, 1, 2}
    assert np.array_equal(edited > 0, labels > 0)  # no area is lost
    assert (edited == 1).sum() >= (edited == 2).sum()
    assert pieces(edited == 1) == pieces(edited == 2) == 1
    y, x = np.nonzero(labels)
    side = np.stack([y + 0.5, x + 0.5], axis=1) @ across - middle @ across
    found = [set(edited[y, x][where].tolist()) for where in (side > 1.5, side < -1.5)]
    assert sorted(map(sorted, found)) == [[1], [2]]


def test_a_crooked_line_splits_every_particle_that_it_cuts_through():
    line = [(10, 20), (30, 21), (52, 19), (54, 50), (30, 51), (5, 49)]
    edited = corrections.split(TWO, line)
    assert len(np.unique(edited)) == 5
    assert np.array_equal(edited > 0, TWO > 0)
    assert all(pieces(edited == number) == 1 for number in range(1, 5))


@pytest.mark.parametrize("line", [[(30, 20), (30, 25)], [(10, 20), (30, 20)], [(1, 1), (2, 70)], [(30, 20)]])
def test_a_line_that_cuts_through_nothing_is_refused(line):
    with pytest.raises(InputError, match="cuts through no particle"):
        corrections.split(TWO, line)


def test_a_line_that_grazes_cuts_off_no_crumb():
    with pytest.raises(InputError, match="cuts through no particle"):
        corrections.split(TWO, [(19, 5), (19, 35)])


def test_a_diagonal_line_does_not_leak():
    labels = np.ones((30, 30), np.int32)
    for end in [(30, 30), (30, 29), (29, 30), (30, 17), (13, 30)]:
        edited = corrections.split(labels, [(0, 0), end])
        assert len(np.unique(edited)) == 2, end


@pytest.mark.parametrize("seed", range(6))
def test_a_polygon_covers_the_pixels_whose_centres_are_inside(seed):
    generator = np.random.default_rng(seed)
    angles = np.sort(generator.uniform(0, 2 * np.pi, 7))
    outline = [(30 + 20 * np.sin(angle), 40 + 25 * np.cos(angle)) for angle in angles]
    edited = corrections.add_polygon(np.zeros((60, 80), np.int32), outline)
    y, x = np.indices((60, 80))
    centres = np.stack([y.ravel() + 0.5, x.ravel() + 0.5], axis=1)
    assert np.array_equal(edited.ravel() > 0, Path(outline).contains_points(centres))


def test_what_is_added_leaves_particles_on_top_and_gets_a_new_id():
    square = [(20, 10), (40, 10), (40, 60), (20, 60)]
    for edited in (corrections.add_polygon(TWO, square), corrections.brush(TWO, [(30, 36), (30, 70)], 16)):
        assert np.array_equal(edited[TWO > 0], TWO[TWO > 0])
        assert set(np.unique(edited)) == {0, 1, 2, 3}
    with pytest.raises(InputError, match="no background"):
        corrections.add_polygon(TWO, [(28, 18), (32, 18), (32, 22)])
    with pytest.raises(InputError, match="three"):
        corrections.add_polygon(TWO, square[:2])
    with pytest.raises(InputError, match="no background"):
        corrections.add_polygon(TWO, [(y, x + 500) for y, x in square])


def test_the_brush_paints_what_is_within_half_its_width():
    stroke, width = [(10.0, 10.0), (20.0, 30.0), (40.0, 31.0)], 7.0
    edited = corrections.brush(np.zeros((60, 80), np.int32), stroke, width)
    samples = np.concatenate([np.linspace(a, b, 400) for a, b in pairwise(stroke)])
    for y, x in np.ndindex(60, 80):
        distance = np.hypot(*(samples - [y + 0.5, x + 0.5]).T).min()
        if abs(distance - width / 2) > 0.05:
            assert (edited[y, x] > 0) == (distance < width / 2), (y, x)
    dot = corrections.brush(np.zeros((9, 9), np.int32), [(4.5, 4.5)], 0.4)
    assert np.count_nonzero(dot) == dot[4, 4] == 1


def test_a_stroke_that_begins_on_a_particle_makes_it_larger():
    edited = corrections.brush(TWO, [(30, 30), (30, 45)], 4)
    assert set(np.unique(edited)) == {0, 1, 2}
    assert (edited == 1).sum() > (TWO == 1).sum() and np.array_equal(edited == 2, TWO == 2)


@pytest.mark.parametrize(("stroke", "width"), [([], 5), ([(5, 5)], 0), ([(5, 5)], float("nan")), ([(-90, -90)], 5)])
def test_a_stroke_that_paints_nothing_is_refused(stroke, width):
    with pytest.raises(InputError):
        corrections.brush(TWO, stroke, width)


def test_edits_are_undone_one_by_one():
    edited = Corrections(TWO)
    states = [TWO]
    for edit in (
        lambda labels: corrections.delete(labels, (30, 20)),
        lambda labels: corrections.add_polygon(labels, [(2, 2), (9, 2), (9, 9)]),
        lambda labels: corrections.split(labels, [(10, 50), (50, 51)]),
        lambda labels: corrections.merge(labels, (30, 45), (30, 55)),
        lambda labels: corrections.brush(labels, [(50, 70)], 9),
    ):
        edited.apply(edit(edited.labels))
        states.append(edited.labels)
    while len(states) > 1:
        states.pop()
        edited.undo()
        assert np.array_equal(edited.labels, states[-1])
    with pytest.raises(InputError, match="nothing to undo"):
        edited.undo()


def test_ids_become_consecutive_in_their_order():
    labels = np.array([[0, 7, 7], [3, 0, 9]], np.int64)
    numbered, old = corrections.renumbered(labels)
    assert numbered.tolist() == [[0, 2, 2], [1, 0, 3]] and old.tolist() == [3, 7, 9]
    numbered, old = corrections.renumbered(np.ones((2, 2), np.int32))
    assert numbered.tolist() == [[1, 1], [1, 1]] and old.tolist() == [1]
    assert len(corrections.renumbered(np.zeros((2, 2), np.int32))[1]) == 0
