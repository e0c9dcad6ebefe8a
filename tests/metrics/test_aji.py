"""AJI+ and AJI against brute force: every pixel, every pair, every assignment."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sempre.errors import InputError
from sempre.metrics import aji, aji_plus, label_overlap, mask_overlap

IDS = [0, 0, 1, 2, 3, 900, 2**31 - 1]  # not contiguous, one of them too large for a table


def label_images() -> st.SearchStrategy:
    blocks = arrays(np.int64, (3, 4), elements=st.sampled_from(IDS))
    return blocks.map(lambda labels: np.kron(labels, np.ones((2, 1), np.int64)))


def masks(labels: np.ndarray) -> list[np.ndarray]:
    return [labels == label for label in np.unique(labels) if label]


def brute_force_aji_plus(true: list[np.ndarray], predicted: list[np.ndarray]) -> set[float]:
    """The ratios of the assignments of largest summed IoU: several where they tie."""
    if not true and not predicted:
        return {1.0}
    few, many = sorted([true, predicted], key=len)
    best, ratios = -1.0, set()
    for chosen in permutations(range(len(many)), len(few)):
        intersections = [(a & many[k]).sum() for a, k in zip(few, chosen, strict=True)]
        unions = [(a | many[k]).sum() for a, k in zip(few, chosen, strict=True)]
        total = sum(i / u for i, u in zip(intersections, unions, strict=True))
        left_over = sum(many[k].sum() for k in range(len(many)) if k not in chosen)
        ratio = sum(intersections) / (sum(unions) + left_over)
        if total > best + 1e-12:
            best, ratios = total, {ratio}
        elif total > best - 1e-12:
            ratios.add(ratio)
    return ratios


def brute_force_aji(true: list[np.ndarray], predicted: list[np.ndarray]) -> set[float]:
    if not true and not predicted:
        return {1.0}
    ratios = {(0.0, 0.0, frozenset())}
    for instance in true:
        ious = [(instance & other).sum() / (instance | other).sum() for other in predicted]
        best = max(ious, default=0.0)
        if best == 0:
            ratios = {(i, u + instance.sum(), used) for i, u, used in ratios}
            continue
        ratios = {
            (i + (instance & predicted[k]).sum(), u + (instance | predicted[k]).sum(), used | {k})
            for i, u, used in ratios
            for k, iou in enumerate(ious)
            if iou == best
        }
    return {i / (u + sum(other.sum() for k, other in enumerate(predicted) if k not in used)) for i, u, used in ratios}


@given(label_images(), label_images())
def test_aji_plus_is_that_of_brute_force(true, predicted):
    score = aji_plus(true, predicted)
    assert any(score == pytest.approx(ratio) for ratio in brute_force_aji_plus(masks(true), masks(predicted)))


@given(label_images(), label_images())
def test_aji_is_that_of_brute_force(true, predicted):
    score = aji(true, predicted)
    assert any(score == pytest.approx(ratio) for ratio in brute_force_aji(masks(true), masks(predicted)))


@given(st.lists(arrays(bool, (4, 4)), max_size=3), st.lists(arrays(bool, (4, 4)), max_size=3))
def test_instances_may_overlap_among_themselves(true, predicted):
    true, predicted = [mask for mask in true if mask.any()], [mask for mask in predicted if mask.any()]
    score = aji_plus(mask_overlap(true, predicted))
    assert any(score == pytest.approx(ratio) for ratio in brute_force_aji_plus(true, predicted))


@given(label_images())
def test_a_perfect_prediction_scores_one_whatever_its_ids(labels):
    renamed = np.where(labels > 0, 2**31 - labels, 0)
    assert aji_plus(labels, renamed) == 1.0
    assert aji(labels, renamed) == 1.0


def test_empty_sides():
    empty, some = np.zeros((6, 6), int), np.eye(6, dtype=int)
    assert aji_plus(empty, empty) == aji(empty, empty) == 1.0
    assert aji_plus(empty, some) == aji_plus(some, empty) == 0.0
    assert aji(empty, some) == aji(some, empty) == 0.0


def test_touching_instances_stay_two():
    true = np.repeat([[1, 1, 2, 2]], 4, axis=0)
    merged = np.repeat([[1, 1, 1, 1]], 4, axis=0)
    # One of the halves is paired with the merged instance (8 of 16 px), the other half is left over.
    assert aji_plus(true, merged) == pytest.approx(8 / (16 + 8))


def test_images_of_different_size_are_refused():
    with pytest.raises(InputError, match="must be equal"):
        aji_plus(np.zeros((4, 4), int), np.zeros((4, 5), int))


def test_labels_and_masks_give_the_same_overlap():
    draws = np.random.default_rng(0)
    true, predicted = draws.integers(0, 6, (2, 20, 20))
    by_labels, by_masks = label_overlap(true, predicted), mask_overlap(masks(true), masks(predicted))
    np.testing.assert_array_equal(by_labels.true_areas, by_masks.true_areas)
    assert aji_plus(by_labels) == pytest.approx(aji_plus(by_masks))
