import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sempre.metrics import Matches, count_matches, count_pairs, panoptic_quality

labels = arrays(np.int64, (6, 6), elements=st.integers(0, 4))


def squares(*corners: tuple[int, int], side: int = 4) -> np.ndarray:
    image = np.zeros((20, 20), int)
    for label, (y, x) in enumerate(corners, start=1):
        image[y : y + side, x : x + side] = label
    return image


def test_found_missed_and_invented_are_counted():
    true = squares((0, 0), (0, 10), (10, 0))
    predicted = squares((0, 0), (0, 11), (14, 14))  # equal; 12 px shared of 20, IoU 0.6; elsewhere
    assert count_matches(true, predicted) == Matches(correct=2, missed=1, false_positives=1)
    assert count_matches(true, predicted, iou=0.7) == Matches(correct=1, missed=2, false_positives=2)


def test_panoptic_quality_of_a_known_case():
    true, predicted = squares((0, 0), (0, 10), (10, 0)), squares((0, 0), (0, 11), (14, 14))
    assert panoptic_quality(true, predicted) == pytest.approx((1 + 12 / 20) / (2 + 0.5 + 0.5))


def test_empty_sides():
    empty, some = np.zeros((20, 20), int), squares((1, 1))
    assert panoptic_quality(empty, empty) == 1.0
    assert panoptic_quality(empty, some) == panoptic_quality(some, empty) == 0.0
    assert count_matches(empty, some) == Matches(0, 0, 1)
    assert count_matches(some, empty) == Matches(0, 1, 0)


@given(labels, labels)
def test_panoptic_quality_is_its_definition(true, predicted):
    true_masks = [true == label for label in np.unique(true) if label]
    predicted_masks = [predicted == label for label in np.unique(predicted) if label]
    # Above one half, pairs of disjoint instances are unique: no assignment is needed.
    ious = [(a & b).sum() / (a | b).sum() for a in true_masks for b in predicted_masks]
    matched = [iou for iou in ious if iou > 0.5]
    instances = len(true_masks) + len(predicted_masks)
    expected = sum(matched) / (instances / 2) if instances else 1.0
    assert panoptic_quality(true, predicted) == pytest.approx(expected)


def test_a_particle_whose_only_partner_is_another_ones_is_not_missed():
    true = np.zeros((10, 20), int)
    true[:, :10], true[:, 10:] = 1, 2  # two particles that touch
    both = np.ones_like(true)  # one prediction over both, IoU 0.5 with each
    assert count_matches(true, both) == Matches(correct=2, missed=0, false_positives=0)
    assert count_matches(both, true) == Matches(correct=1, missed=0, false_positives=0)
    assert count_pairs(true, both) == count_pairs(both, true) == 1


@given(labels, labels)
def test_found_missed_and_invented_are_what_the_definition_says(true, predicted):
    true_masks = [true == label for label in np.unique(true) if label]
    predicted_masks = [predicted == label for label in np.unique(predicted) if label]
    near = np.zeros((len(true_masks), len(predicted_masks)), bool)
    for row, one in enumerate(true_masks):
        for column, other in enumerate(predicted_masks):
            near[row, column] = (one & other).sum() / (one | other).sum() >= 0.4
    matches = count_matches(true, predicted)
    assert matches.correct == near.any(1).sum()
    assert matches.missed == (~near.any(1)).sum()
    assert matches.false_positives == (~near.any(0)).sum()
    assert count_pairs(true, predicted) <= min(near.any(1).sum(), near.any(0).sum())
