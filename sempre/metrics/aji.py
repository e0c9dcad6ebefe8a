"""The aggregated Jaccard index (AJI) and its one-to-one form, AJI+."""

import numpy as np

from sempre.metrics.overlap import Overlap, overlap_of


def aji_plus(true: np.ndarray | Overlap, predicted: np.ndarray | None = None) -> float:
    """AJI+: aggregated intersection over aggregated union under a one-to-one assignment.

    True and predicted instances are paired so that the sum of their IoU is largest; instances of either side that
    are left over count in the union (Graham et al., "HoVer-Net", Medical Image Analysis 58, 2019).

    Args:
        true, predicted: label images `[H, W]`, 0 = background; or their `Overlap` alone.

    Returns:
        From 0 to 1; 1 when both sides are empty, 0 when one is.
    """
    overlap = overlap_of(true, predicted)
    pairs = overlap.assignment
    intersection = overlap.intersections[pairs].sum()
    # Paired or not, every instance counts with its area; what pairs share is counted once.
    union = overlap.true_areas.sum() + overlap.predicted_areas.sum() - intersection
    return float(intersection / union) if union else 1.0


def aji(true: np.ndarray | Overlap, predicted: np.ndarray | None = None) -> float:
    """AJI as first defined: each true instance takes the prediction of highest IoU, also one taken before.

    Kumar et al., IEEE Trans. Medical Imaging 36, 2017. Arguments and degenerate cases as in `aji_plus`.
    """
    overlap = overlap_of(true, predicted)
    # Sorted by true instance and IoU, the last pair of each true instance is its best.
    order = np.lexsort((overlap.ious, overlap.true))
    last_of_its_kind = np.append(np.diff(overlap.true[order]) > 0, True)[: len(order)]
    best = order[last_of_its_kind]
    intersection = overlap.intersections[best].sum()
    alone = np.delete(overlap.true_areas, overlap.true[best]).sum()
    unused = np.delete(overlap.predicted_areas, np.unique(overlap.predicted[best])).sum()
    union = overlap.unions[best].sum() + alone + unused
    return float(intersection / union) if union else 1.0
