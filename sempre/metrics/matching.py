"""Instances found, missed and invented, and panoptic quality."""

from dataclasses import dataclass

import numpy as np

from sempre.metrics.overlap import Overlap, label_overlap

FOUND_IOU = 0.4  # from this IoU on a true instance counts as found


@dataclass(frozen=True)
class Matches:
    """Counts of instances: found (correct), missed (true ones without prediction), false positives."""

    correct: int
    missed: int
    false_positives: int


def matched_pairs(overlap: Overlap, iou: float = FOUND_IOU) -> np.ndarray:
    """The pairs of AJI+'s assignment that overlap by at least `iou`: positions among the overlap's pairs."""
    return overlap.assignment[overlap.ious[overlap.assignment] >= iou]


def count_matches(true: np.ndarray | Overlap, predicted: np.ndarray | None = None, iou: float = FOUND_IOU) -> Matches:
    """Count the pairs of AJI+'s assignment that overlap by at least `iou`; the others are missed or invented.

    Args:
        true, predicted: label images `[H, W]`, 0 = background; or their `Overlap` alone.
    """
    overlap = true if isinstance(true, Overlap) else label_overlap(true, predicted)
    correct = len(matched_pairs(overlap, iou))
    return Matches(correct, len(overlap.true_areas) - correct, len(overlap.predicted_areas) - correct)


def panoptic_quality(true: np.ndarray | Overlap, predicted: np.ndarray | None = None) -> float:
    """PQ: the sum of IoU of pairs with IoU > 0.5, over their number plus half of the unpaired instances.

    Kirillov et al., "Panoptic Segmentation", CVPR 2019. Above 0.5 a pair is unique unless instances overlap among
    themselves; then the assignment decides. 1 when both sides are empty, 0 when one is.
    """
    overlap = true if isinstance(true, Overlap) else label_overlap(true, predicted)
    ious = overlap.ious[overlap.assignment]
    ious = ious[ious > 0.5]
    instances = (len(overlap.true_areas) + len(overlap.predicted_areas)) / 2
    return float(ious.sum() / instances) if instances else 1.0
