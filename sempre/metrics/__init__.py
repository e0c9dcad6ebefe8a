"""Scores of instance segmentations, on label images or overlapping masks."""

from sempre.metrics.aji import aji, aji_plus
from sempre.metrics.average_precision import average_precision
from sempre.metrics.error_reduction import error_reduction_rate
from sempre.metrics.masks import dice, hd95, iou
from sempre.metrics.matching import (
    FOUND_IOU,
    Matches,
    count_matches,
    count_pairs,
    found_instances,
    panoptic_quality,
)
from sempre.metrics.overlap import Overlap, label_overlap, mask_overlap
from sempre.metrics.scores import by_group, compare_arms, score_sample, summarise, summarise_repeats, with_spread
from sempre.metrics.size_bins import SIZE_EDGES, add_by_size, count_by_size, size_bin_names

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
