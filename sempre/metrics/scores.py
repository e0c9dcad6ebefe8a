"""Tables of scores: a sample, a run, repeats of a run, arms of a study."""

from collections.abc import Mapping, Sequence

import numpy as np

from sempre.metrics.aji import aji, aji_plus
from sempre.metrics.error_reduction import error_reduction_rate
from sempre.metrics.matching import count_matches, panoptic_quality
from sempre.metrics.overlap import Overlap

MEANS = ("aji_plus", "aji", "panoptic_quality")
COUNTS = ("true_instances", "predicted_instances", "correct", "missed", "false_positives")


def score_sample(overlap: Overlap) -> dict[str, float]:
    """AJI+, AJI, PQ, and the counts of instances at IoU 0.4 of one micrograph."""
    matches = count_matches(overlap)
    return {
        "aji_plus": aji_plus(overlap),
        "aji": aji(overlap),
        "panoptic_quality": panoptic_quality(overlap),
        "true_instances": len(overlap.true_areas),
        "predicted_instances": len(overlap.predicted_areas),
        "correct": matches.correct,
        "missed": matches.missed,
        "false_positives": matches.false_positives,
    }


def summarise(samples: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Means over the samples of AJI+, AJI and PQ, and sums of the counts."""
    means = {name: float(np.mean([sample[name] for sample in samples.values()])) for name in MEANS}
    sums = {name: int(sum(sample[name] for sample in samples.values())) for name in COUNTS}
    return {"samples": len(samples), **means, **sums}


def summarise_repeats(summaries: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (of the sample, n - 1; 0 for one) of every score over repeats."""
    columns = {name: [summary[name] for summary in summaries] for name in summaries[0]}
    return {
        name: {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}
        for name, values in columns.items()
    }


def compare_arms(aji_plus_of: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """ERR in per cent of every arm (outer key) against every other (inner key), from their mean AJI+."""
    return {
        arm: {
            other: error_reduction_rate(1 - other_score, 1 - score)
            for other, other_score in aji_plus_of.items()
            if other != arm
        }
        for arm, score in aji_plus_of.items()
    }
