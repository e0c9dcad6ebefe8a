"""Instances found, missed and invented, and panoptic quality."""

from dataclasses import dataclass

import numpy as np

from sempre.metrics.overlap import Overlap, overlap_of

FOUND_IOU = 0.4  # from this IoU on a true instance counts as found


@dataclass(frozen=True)
class Matches:
    """Counts of instances: found (correct), missed (true ones without prediction), false positives."""

    correct: int
    missed: int
    false_positives: int


def found_instances(overlap: Overlap, iou: float = FOUND_IOU) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the true instances that any prediction overlaps by at least `iou`, and of the predictions that do.

    So count Rettenberger et al., "Leveraging unlabeled SEM datasets with self-supervised learning for enhanced particle
    segmentation", npj Comput. Mater. 2025, doi 10.1038/s41524-025-01802-3. Up to an IoU of 0.5 two instances may share
    their partner.
    """
    near = overlap.ious >= iou
    return np.unique(overlap.true[near]), np.unique(overlap.predicted[near])


def count_matches(true: np.ndarray | Overlap, predicted: np.ndarray | None = None, iou: float = FOUND_IOU) -> Matches:
    """Count true instances that are found, those that are missed, and predictions that find none (`found_instances`).

    Args:
        true, predicted: label images `[H, W]`, 0 = background; or their `Overlap` alone.
    """
    overlap = overlap_of(true, predicted)
    found, finding = found_instances(overlap, iou)
    return Matches(len(found), len(overlap.true_areas) - len(found), len(overlap.predicted_areas) - len(finding))


def count_pairs(true: np.ndarray | Overlap, predicted: np.ndarray | None = None, iou: float = FOUND_IOU) -> int:
    """Pairs of AJI+'s one-to-one assignment that overlap by at least `iou`; none of its instances is counted twice.

    Over the numbers of true and of predicted instances this is the recall and the precision of a matching.
    """
    overlap = overlap_of(true, predicted)
    return int((overlap.ious[overlap.assignment] >= iou).sum())


def panoptic_quality(true: np.ndarray | Overlap, predicted: np.ndarray | None = None) -> float:
    """PQ: the sum of IoU of pairs with IoU > 0.5, over their number plus half of the unpaired instances.

    Kirillov et al., "Panoptic Segmentation", CVPR 2019. Above 0.5 a pair is unique unless instances overlap among
    themselves; then the assignment decides. 1 when both sides are empty, 0 when one is.
    """
    overlap = overlap_of(true, predicted)
    ious = overlap.ious[overlap.assignment]
    ious = ious[ious > 0.5]
    instances = (len(overlap.true_areas) + len(overlap.predicted_areas)) / 2
    return float(ious.sum() / instances) if instances else 1.0
