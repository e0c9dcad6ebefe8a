import numpy as np
import pytest

from sempre.images.volume_objects import direction_shares, measure_solids


def ellipsoid(radii, sides, shape=(40, 64, 64)):
    """A label volume of one ball or ellipsoid in the middle, its voxels of these sides."""
    places = np.indices(shape).reshape(3, -1).T * sides
    centre = np.array(shape) * sides / 2
    return ((((places - centre) / radii) ** 2).sum(1) <= 1).reshape(shape).astype(int)


@pytest.mark.parametrize("sides", [(1, 1, 1), (2, 1, 1), (0.5, 0.2, 0.2)])
@pytest.mark.parametrize("radius", [12, 18])
def test_volume_and_surface_of_a_ball(sides, radius):
    sides, radius = np.array(sides), radius * sides[1]
    found = measure_solids(ellipsoid(radius, sides), 1, tuple(sides))
    assert found.volume[0] == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)
    assert found.surface[0] == pytest.approx(4 * np.pi * radius**2, rel=0.04)
    assert not found.touches[0]


def test_the_cut_of_the_border_is_no_surface():
    ball = ellipsoid(16, np.ones(3))
    whole, half = (measure_solids(volume, 1, (1, 1, 1)) for volume in (ball, ball[:21]))
    assert half.surface[0] == pytest.approx(whole.surface[0] / 2, rel=0.05)
    assert half.touches[0]
    assert (whole.first[0], whole.last[0]) == (4, 36)


def test_objects_that_touch_are_told_apart():
    volume = np.zeros((6, 20, 20), int)
    volume[1:5, 2:18, 2:10], volume[1:5, 2:18, 10:18] = 1, 3
    found = measure_solids(iter(volume), 3, (1, 1, 1))
    assert found.voxels.tolist() == [512, 0, 512]
    assert found.surface[0] == pytest.approx(found.surface[2])
    assert found.first.tolist() == [1, -1, 1]
    alone = measure_solids(np.where(volume == 1, 1, 0), 1, (1, 1, 1))
    assert found.surface[0] == pytest.approx(alone.surface[0])


def test_the_weights_of_cubic_voxels_are_those_of_the_literature():
    steps = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 1], [0, 1, -1], [1, 0, 1], [1, 0, -1]])
    steps = np.concatenate([steps, [[1, 1, 0], [1, -1, 0], [1, 1, 1], [1, 1, -1], [1, -1, 1], [1, -1, -1]]])
    expected = [0.0916] * 3 + [0.0740] * 6 + [0.0704] * 4  # Lehmann and Legland, 2012
    np.testing.assert_allclose(direction_shares(steps.astype(float)), expected, atol=1e-3)
