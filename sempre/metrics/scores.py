"""Tables of scores: a sample, a run, repeats of a run, arms of a study."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sempre.metrics.matching import (
    SIZE_EDGES,
    add_by_size,
    aji,
    aji_plus,
    count_by_size,
    count_matches,
    count_pairs,
    panoptic_quality,
)
from sempre.metrics.overlap import Overlap


def error_reduction_rate(baseline_error: float, error: float) -> float:
    """ERR in per cent: 100 (baseline_error - error) / baseline_error, negative when the method is worse.

    The error of a segmentation is 1 - AJI+. A baseline without error leaves nothing to reduce: 0 when the method has
    none either, else minus infinity.
    """
    if baseline_error == 0:
        return 0.0 if error == 0 else float("-inf")
    return 100.0 * (baseline_error - error) / baseline_error


MEANS = ("aji_plus", "aji", "panoptic_quality")
COUNTS = ("true_instances", "predicted_instances", "correct", "missed", "false_positives", "paired")


def score_sample(overlap: Overlap) -> dict[str, Any]:
    """AJI+, AJI, PQ, and the counts of instances at IoU 0.4 of one micrograph, in `size_bins` by `count_by_size`.

    `correct`, `missed` and `false_positives` are those of `count_matches`, `paired` is `count_pairs`.
    """
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
        "paired": count_pairs(overlap),
        "size_bins": count_by_size(overlap),
    }


def summarise(samples: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the samples of AJI+, AJI and PQ, and sums of the counts; `size_bins` names its edges, in px."""
    means = {name: float(np.mean([sample[name] for sample in samples.values()])) for name in MEANS}
    sums = {name: int(sum(sample[name] for sample in samples.values())) for name in COUNTS}
    bins = {"edges_px": list(SIZE_EDGES), **add_by_size(sample["size_bins"] for sample in samples.values())}
    return {"samples": len(samples), **means, **sums, "size_bins": bins}


def by_group(samples: Mapping[str, Mapping], groups: Mapping[str, str]) -> dict[str, dict[str, Mapping]]:
    """The samples of each group, by the group's name; `groups` tells the group of each sample by its name."""
    members: dict[str, dict[str, Mapping]] = {}
    for name, sample in samples.items():
        members.setdefault(groups[name], {})[name] = sample
    return dict(sorted(members.items()))


def summarise_repeats(summaries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (of the sample, n - 1; 0 for one) of every score over repeats.

    Scores are single numbers; the counts by size stay in each repeat's summary. A score that is None, as mask AP is
    where no particle is to be found, counts as nan.
    """
    scores = [name for name, value in summaries[0].items() if not isinstance(value, dict)]
    columns = {name: [np.nan if summary[name] is None else summary[name] for summary in summaries] for name in scores}
    return {
        name: {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}
        for name, values in columns.items()
    }


def with_spread(score: Mapping[str, float]) -> str:
    """A score of `summarise_repeats` as mean ± deviation; the mean alone of one repeat, which has none."""
    return f"{score['mean']:.3f} ± {score['std']:.3f}" if score["std"] else f"{score['mean']:.3f}"


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
