"""Scores of instance segmentations, on label images or overlapping masks."""

from sempre.metrics.aji import aji, aji_plus
from sempre.metrics.average_precision import average_precision
from sempre.metrics.error_reduction import error_reduction_rate
from sempre.metrics.masks import dice, hd95, iou
from sempre.metrics.matching import Matches, count_matches, panoptic_quality
from sempre.metrics.overlap import Overlap, label_overlap, mask_overlap
from sempre.metrics.scores import compare_arms, score_sample, summarise, summarise_repeats

__all__ = [
    "Matches",
    "Overlap",
    "aji",
    "aji_plus",
    "average_precision",
    "compare_arms",
    "count_matches",
    "dice",
    "error_reduction_rate",
    "hd95",
    "iou",
    "label_overlap",
    "mask_overlap",
    "panoptic_quality",
    "score_sample",
    "summarise",
    "summarise_repeats",
]
