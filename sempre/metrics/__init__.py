"""Scores of instance segmentations, on label images or overlapping masks."""

from sempre.metrics.masks import dice, hd95, iou
from sempre.metrics.matching import (
    FOUND_IOU,
    SIZE_EDGES,
    Matches,
    add_by_size,
    aji,
    aji_plus,
    average_precision,
    count_by_size,
    count_matches,
    count_pairs,
    found_instances,
    panoptic_quality,
    size_bin_names,
)
from sempre.metrics.overlap import Overlap, label_overlap, mask_overlap
from sempre.metrics.scores import (
    by_group,
    compare_arms,
    error_reduction_rate,
    score_sample,
    summarise,
    summarise_repeats,
    with_spread,
)

__all__ = [
    "FOUND_IOU",
    "SIZE_EDGES",
    "Matches",
    "Overlap",
    "add_by_size",
    "aji",
    "aji_plus",
    "average_precision",
    "by_group",
    "compare_arms",
    "count_by_size",
    "count_matches",
    "count_pairs",
    "dice",
    "error_reduction_rate",
    "found_instances",
    "hd95",
    "iou",
    "label_overlap",
    "mask_overlap",
    "panoptic_quality",
    "score_sample",
    "size_bin_names",
    "summarise",
    "summarise_repeats",
    "with_spread",
]
