"""Patches without a network: a flat grid of features in which two places stand out."""

import numpy as np
import pytest

from sempre.frozen.encoder import Grid
from sempre.scan.patches import Patches
from sempre.scan.preview import Preview, prepare

SIDE, STRIDE = 256, 16
STRANGE = ((3, 4), (12, 9))  # rows and columns of the patches that stand out


@pytest.fixture
def patches() -> Patches:
    """16x16 patches of 16 px."""
    random = np.random.default_rng(0)
    vectors = random.normal(0, 1, (16, 16, 5)).astype(np.float32)
    for place in STRANGE:
        vectors[place] += [8, 8, 0, 0, 0]
    return Patches(Grid(SIDE, SIDE, SIDE, SIDE, STRIDE), vectors.reshape(-1, 5))


@pytest.fixture
def preview() -> Preview:
    """A noisy ground of 256x256 px with two bright spots where the patches stand out; 1 px is 10 nm."""
    pixels = np.random.default_rng(1).normal(100, 5, (SIDE, SIDE))
    for row, column in STRANGE:
        pixels[row * 16 + 4 : row * 16 + 12, column * 16 + 4 : column * 16 + 12] += 100
    return prepare(pixels, 10.0)
