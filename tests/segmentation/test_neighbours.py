import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label
from scipy.spatial.distance import cdist

from sempre.segmentation.particles import measure_particles


def discs(centres, radius, shape, tall=1.0) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    labels = np.zeros(shape, np.int32)
    for number, (cx, cy) in enumerate(centres, start=1):
        labels[(x - cx) ** 2 + (tall * y - cy) ** 2 <= radius**2] = number
    return labels


@pytest.mark.parametrize("angle", np.radians([0, 15, 30, 45, 70, 90]))
@pytest.mark.parametrize("gap", [2, 7, 40])
def test_the_gap_between_discs(angle, gap):
    radius, random = 20, np.random.default_rng(0)
    found = []
    for _ in range(5):
        first = random.uniform(39, 41, 2)
        second = first + (2 * radius + gap) * np.array([np.cos(angle), np.sin(angle)])
        two = measure_particles(discs([first, second], radius, (180, 180)), np.ones(2))
        assert two[0].distance_to_next == two[1].distance_to_next
        found.append(two[0].distance_to_next or 0.0)
    assert np.mean(found) == pytest.approx(gap, abs=0.8)


def test_the_gap_with_pixels_that_are_not_square():
    labels = discs([(40, 40), (40, 95)], 20, (70, 80), tall=2.0)
    one, _ = measure_particles(labels, np.ones(2), (3.0, 6.0))
    assert one.distance_to_next_nm == pytest.approx(3 * 15, abs=6)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_gaps_and_aggregates_by_brute_force(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (12, 17)) * (random.random((12, 17)) < 0.5)
    labels = label(labels)[0].astype(np.int32)
    count = labels.max()
    particles = measure_particles(labels, np.ones(count))
    places = [np.argwhere(labels == number) for number in range(1, count + 1)]
    joined, _ = label(labels, np.ones((3, 3)))
    for one, particle in enumerate(particles):
        others = [cdist(places[one], places[other]).min() for other in range(count) if other != one]
        if not others:
            assert particle.distance_to_next is None
            continue
        expected = 0 if min(others) < 1.5 else min(others) - 1
        assert particle.distance_to_next == pytest.approx(expected)
        same = {other.id for other in particles if other.aggregate == particle.aggregate}
        assert same == set(np.unique(labels[(joined == joined[tuple(places[one][0])])]).tolist())
        assert particle.aggregate_particles == len(same)
    numbers = [particle.aggregate for particle in particles]
    assert sorted(set(numbers)) == list(range(1, len(set(numbers)) + 1))


def test_a_lone_particle_has_no_next_one_and_is_its_own_aggregate():
    (one,) = measure_particles(np.pad(np.ones((3, 4), np.int32), 2), np.ones(1))
    assert (one.distance_to_next, one.aggregate, one.aggregate_particles, one.fractal_dimension) == (None, 1, 1, None)


def spheres_of_dimension(dimension, count, random) -> np.ndarray:
    """Centres (x, y, z) of unit spheres, in a random order of joining, whose radius of gyration grows as 1.3 of the
    law of fractal aggregates says (Filippov, Zurita and Rosner, J. Colloid Interface Sci. 229, 2000)."""
    centres = np.array([[0.0, 0, 0], [2, 0, 0]])
    for size in range(3, count + 1):
        middle = centres.mean(axis=0)
        gyration = (size / 1.3) ** (2 / dimension)
        own = ((centres - middle) ** 2).sum() + 0.6 * (size - 1)
        # So far from the middle that the radius of gyration of all is right.
        distance = np.sqrt(max(gyration * size - own - 0.6, 0) * size / (size - 1))
        for _ in range(4000):
            direction = random.standard_normal(3)
            place = middle + distance * direction / np.linalg.norm(direction)
            nearest = np.linalg.norm(centres - place, axis=1).min()
            if 1.9 <= nearest <= 2.15:
                break
        centres = np.vstack([centres, place])
    return centres - centres.mean(axis=0)


def test_the_fractal_dimension_of_projected_aggregates():
    found = []
    for seed in range(12):
        centres = spheres_of_dimension(1.8, 40, np.random.default_rng(seed))
        flat = 8 * centres[:, :2]
        flat -= flat.min(axis=0) - 12
        shape = tuple((flat.max(axis=0) + 12).astype(int)[::-1])
        labels = discs(flat, 8.3, shape)
        seen = np.unique(labels[labels > 0])
        labels = np.searchsorted(np.concatenate([[0], seen]), labels).astype(np.int32)
        particles = measure_particles(labels, np.ones(len(seen)))
        found += [p.fractal_dimension for p in particles if p.aggregate_particles > 20][:1]
    assert len(found) >= 8
    assert np.mean(found) == pytest.approx(1.8, abs=0.15)


@pytest.mark.parametrize("tall", [1.0, 2.0])
def test_a_chain_is_thin_and_a_raft_is_flat(tall):
    size = None if tall == 1 else (1.0, tall)
    chain = discs([(12 + 16 * place, 12) for place in range(30)], 8.3, (int(24 / tall), 500), tall)
    raft = discs([(12 + 16 * x, 12 + 16 * y) for x in range(8) for y in range(8)], 8.3, (int(140 / tall), 140), tall)
    assert measure_particles(chain, np.ones(30), size)[0].fractal_dimension == pytest.approx(1.1, abs=0.1)
    assert measure_particles(raft, np.ones(64), size)[0].fractal_dimension == pytest.approx(2.1, abs=0.15)
    assert measure_particles(chain, np.ones(30), size)[0].aggregate_particles == 30
