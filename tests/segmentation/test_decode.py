import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sempre.segmentation.decode as module
from sempre.metrics import aji_plus
from sempre.segmentation.decode import NOBODY, Decoding, believed, blocks, decode, open_instances


def cones(shape: tuple[int, int], discs: list[tuple[float, float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability, depth and labels of discs (y, x, radius), as a perfect network would give them."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    depth, labels = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    for number, (centre_y, centre_x, radius) in enumerate(discs, start=1):
        height = 1 - np.hypot(y - centre_y, x - centre_x) / radius
        labels[(height > 0) & (height > depth)] = number
        depth = np.maximum(depth, height)
    return (labels > 0).astype(np.float32), depth, labels


def test_touching_discs_are_told_apart():
    maps = cones((80, 120), [(40, 30, 22), (40, 72, 22), (20, 100, 9), (66, 100, 5)])
    labels = decode(*maps[:2], Decoding())
    assert labels.max() == 4
    assert aji_plus(maps[2], labels) > 0.97


def test_a_region_without_a_marker_is_one_particle():
    probability, depth, true = cones((40, 60), [(20, 15, 10), (20, 45, 10)])
    labels = decode(probability, np.where(true == 1, 0.3 * depth, depth), Decoding())
    assert aji_plus(true, labels) == 1.0


def test_empty_maps_have_no_particle_and_full_ones_have_one():
    empty = np.zeros((16, 16), np.float32)
    assert decode(empty, empty, Decoding()).max() == 0
    assert (decode(empty + 1, empty, Decoding()) == 1).all()


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.integers(40, 90))
def test_blocks_change_nothing(seed, side):
    random = np.random.default_rng(seed)
    discs = [(*random.uniform(0, 160, 2), random.uniform(3, 14)) for _ in range(40)]
    probability, depth, _ = cones((160, 160), discs)
    whole = decode(probability, depth, Decoding())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", side)
        patch.setattr(module, "HALO", 40)
        np.testing.assert_array_equal(decode(probability, depth, Decoding()), whole)


def test_blocks_cover_everything_once():
    seen = np.zeros((50, 70), int)
    for inner, outer in blocks(seen.shape, 32, 8):
        seen[inner] += 1
        assert all(
            around.start <= core.start and core.stop <= around.stop for core, around in zip(inner, outer, strict=True)
        )
    assert (seen == 1).all()


def test_what_is_nowhere_deep_is_a_part_of_the_particle_beside_it():
    probability, depth, _ = cones((60, 90), [(30, 30, 20), (30, 58, 14)])
    shallow = np.where(np.arange(90) > 47, 0.47 * depth, depth)
    assert decode(probability, shallow, Decoding(marker=0.4)).max() == 1
    assert decode(probability, shallow, Decoding(marker=0.4, least_depth=0.4)).max() == 2
    alone = cones((60, 90), [(30, 20, 12), (30, 66, 12)])
    assert decode(alone[0], 0.47 * alone[1], Decoding(marker=0.4)).max() == 2  # each is all of its region


def particle_with(tongue: tuple[slice, slice]) -> np.ndarray:
    """The label image `[80, 80]` of a disc of 20 px that something juts out of."""
    labels = cones((80, 80), [(40, 40, 20)])[2]
    labels[tongue] = 1
    return labels


def test_opening_takes_tongues_and_bits_away_and_nothing_else():
    disc = cones((80, 80), [(40, 40, 20)])[2] > 0
    for tongue in ((slice(38, 42), slice(50, 78)), (slice(2, 14), slice(2, 14))):
        labels = particle_with(tongue)
        open_instances(labels)
        assert (labels[tongue] == NOBODY).any()
        assert (labels == 1)[disc].mean() > 0.99
        assert np.count_nonzero((labels == 1) & ~disc) < 10


def test_opening_leaves_rods_small_ones_and_what_the_border_cuts():
    labels = np.zeros((60, 100), np.int32)
    labels[10:14, 2:98] = 1
    labels[30:33, 20:23], labels[31, 23:26] = 2, 2
    labels[40:60, 60:100] = 3
    before = labels.copy()
    open_instances(labels)
    assert np.count_nonzero(labels != before) < 12  # of the third's free corner
    np.testing.assert_array_equal((labels != before)[:35], False)
    full = np.ones((20, 20), np.int32)
    open_instances(full)
    assert (full == 1).all()


def test_what_is_improbable_or_shallow_is_nobodys():
    probability, depth, true = cones((60, 120), [(30, 25, 12), (30, 60, 12), (30, 95, 12)])
    probability[true == 2] = 0.6
    depth[true == 3] *= 0.3
    labels = believed(true, probability, depth, Decoding(least_score=0.7))
    np.testing.assert_array_equal(labels, np.choose(true, [0, 1, NOBODY, NOBODY]))
