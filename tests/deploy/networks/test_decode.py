import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sempre.deploy.networks.decode as module
from sempre.deploy.networks.decode import Decoding, blocks, decode
from sempre.metrics import aji_plus


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
