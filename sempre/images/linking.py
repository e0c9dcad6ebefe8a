"""Instances of a volume's slices as objects: which of one slice goes on as which of the next."""

from collections.abc import Iterable

import numpy as np


def link_slices(slices: Iterable[np.ndarray], least_iou: float = 0.25) -> list[np.ndarray]:
    """For each slice the objects int64 `[N + 1]` that its instances 0 to N belong to; 0 is background.

    An instance goes on as the one of the next slice that it overlaps most, if that overlaps none more and their IoU is
    at least `least_iou` (Stringer et al., "Cellpose", Nature Methods 18, 2021, stitch so with 0.25). Objects neither
    branch nor skip a slice. Two slices are in memory at a time.

    Args:
        slices: label images int `[H, W]`, from the first slice to the last, ids 0 to N.
    """
    objects, number, before = [], 0, None
    for labels in slices:
        count = int(labels.max(initial=0))
        found = np.zeros(count + 1, np.int64)
        if before is not None and count and before.max(initial=0):
            first, second = _same(before, labels, least_iou)
            found[second] = objects[-1][first]
        fresh = np.flatnonzero(found[1:] == 0) + 1
        found[fresh] = np.arange(number + 1, number + 1 + len(fresh))
        number += len(fresh)
        objects.append(found)
        before = labels
    return objects


def _same(before: np.ndarray, labels: np.ndarray, least_iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Ids of one slice and those of the next that they go on as, `[K]` each."""
    overlap = (before > 0) & (labels > 0)
    width = int(labels.max()) + 1
    pairs, shared = np.unique(before[overlap].astype(np.int64) * width + labels[overlap], return_counts=True)
    first, second = pairs // width, pairs % width
    areas = [np.bincount(image.ravel()) for image in (before, labels)]
    ious = shared / (areas[0][first] + areas[1][second] - shared)
    # Of each side's overlaps the largest; equal ones are decided by the order of the ids.
    best = [np.zeros(len(pairs), bool), np.zeros(len(pairs), bool)]
    order = np.argsort(-ious, kind="stable")
    for kept, ids in zip(best, (first, second), strict=True):
        kept[order[np.unique(ids[order], return_index=True)[1]]] = True
    same = best[0] & best[1] & (ious >= least_iou)
    return first[same], second[same]
