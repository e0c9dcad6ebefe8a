import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from sempre.errors import InputError
from sempre.metrics import dice, hd95, iou

SHAPE = (9, 12)
masks = arrays(bool, SHAPE)


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels of the mask with a 4-neighbour outside it, or outside the image."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(mask & ~inside)


@given(masks, masks)
def test_overlaps_are_counts(true, predicted):
    both, either = set(), set()
    for name in zip(*np.indices(SHAPE).reshape(2, -1), strict=True):
        both |= {name} if true[name] and predicted[name] else set()
        either |= {name} if true[name] or predicted[name] else set()
    assert iou(true, predicted) == (len(both) / len(either) if either else 1.0)
    total = int(true.sum()) + int(predicted.sum())
    assert dice(true, predicted) == (2 * len(both) / total if total else 1.0)


@given(masks, masks)
def test_hd95_is_brute_force_over_boundary_points(true, predicted):
    distance = hd95(true, predicted)
    assert distance == hd95(predicted, true)
    first, second = boundary(true), boundary(predicted)
    if len(first) and len(second):
        pairs = np.linalg.norm(first[:, None] - second[None], axis=-1)
        expected = max(np.percentile(pairs.min(1), 95), np.percentile(pairs.min(0), 95))
    else:
        expected = 0.0 if len(first) == len(second) else np.hypot(*SHAPE)
    assert distance == pytest.approx(expected)


def test_a_shifted_square_is_as_far_as_its_shift():
    square = np.zeros((40, 40), bool)
    square[10:20, 10:20] = True
    assert hd95(square, ndimage.shift(square.astype(float), (0, 6), order=0) > 0.5) == 6


def test_masks_of_two_sizes():
    for score in (dice, iou, hd95):
        with pytest.raises(InputError, match="must be equal"):
            score(np.ones((2, 2), bool), np.ones((2, 3), bool))
