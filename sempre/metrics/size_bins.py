"""Instances found, missed and invented, by their size."""

from collections.abc import Iterable, Mapping

import numpy as np

from sempre.metrics.matching import FOUND_IOU, found_instances
from sempre.metrics.overlap import Overlap, overlap_of

SIZE_EDGES = (8, 16, 32, 64, 128, 256)  # px of equivalent diameter; a bin takes its lower edge
COUNTED = ("true", "found", "false_positives")


def count_by_size(
    true: np.ndarray | Overlap, predicted: np.ndarray | None = None, iou: float = FOUND_IOU
) -> dict[str, list[int]]:
    """Counts of instances in bins of equivalent diameter, that of a disc of the same area.

    The bins are 0 to 8 px, 8 to 16, …, 128 to 256, and 256 px and more (`SIZE_EDGES`).

    Args:
        true, predicted: label images `[H, W]`, 0 = background; or their `Overlap` alone.
        iou: a true instance is found as in `count_matches`.

    Returns:
        Seven counts each: `true` and `found`, by the true instances' size; `false_positives`, by their own.
    """
    overlap = overlap_of(true, predicted)
    found, finding = found_instances(overlap, iou)
    return {
        "true": _histogram(overlap.true_areas),
        "found": _histogram(overlap.true_areas[found]),
        "false_positives": _histogram(np.delete(overlap.predicted_areas, finding)),
    }


def add_by_size(counts: Iterable[Mapping[str, list[int]]]) -> dict[str, list[int]]:
    """The sums of what `count_by_size` gave of one micrograph or more."""
    counts = list(counts)
    return {name: np.sum([count[name] for count in counts], axis=0).tolist() for name in COUNTED}


def size_bin_names() -> list[str]:
    """As in "0–8" or "256+", in px."""
    edges = (0, *SIZE_EDGES)
    return [f"{lower}–{upper}" for lower, upper in zip(edges, SIZE_EDGES, strict=False)] + [f"{edges[-1]}+"]


def _histogram(areas: np.ndarray) -> list[int]:
    diameters = np.sqrt(4 / np.pi * areas)
    return np.bincount(np.digitize(diameters, SIZE_EDGES), minlength=len(SIZE_EDGES) + 1).tolist()
