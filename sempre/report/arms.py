"""Arms of a comparison: finished runs that were scored on the same held-out micrographs of a labelled set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sempre.data.labels.labelled import LabelledSet
from sempre.data.labels.predictions import true_overlap
from sempre.errors import InputError
from sempre.files import read_json
from sempre.images import read_labels
from sempre.metrics import SIZE_EDGES, add_by_size, compare_arms, count_by_size, with_spread
from sempre.report.html import table

COUNTS = ("correct", "missed", "false_positives")


@dataclass(frozen=True)
class Arm:
    """A run of `finetune/mask_rcnn.py` or `evaluate/watershed.py`, or of what else writes the same files.

    `scores` are mean and deviation over repeats; `aji_plus` of each micrograph, and `size_bins` (as
    `sempre.metrics.count_by_size`), are means over repeats. `shown_aji_plus` is of the first repeat, whose predictions
    are in the folder `predictions`. `groups` are such scores of each group of micrographs, if they were scored apart.
    """

    name: str
    scores: dict[str, dict[str, float]]
    aji_plus: dict[str, float]
    size_bins: dict[str, list[float]]
    shown_aji_plus: dict[str, float]
    predictions: Path
    groups: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)


def read_arms(runs: Mapping[str, Path], labelled: LabelledSet) -> list[Arm]:
    """The arms in the order of `runs`, whose keys are their names.

    Raises:
        InputError: for a run that has not finished or is of another kind; for one that was scored on other micrographs
            than the first, or on some that `labelled` does not have.
    """
    arms = [_read_arm(name, Path(run), labelled) for name, run in runs.items()]
    for arm, run in zip(arms, runs.values(), strict=True):
        if differing := sorted(set(arm.aji_plus) ^ set(arms[0].aji_plus)):
            raise InputError(
                f"{run} and {next(iter(runs.values()))} were scored on different micrographs ({differing[0]} is of one "
                "alone): compare runs of the same split"
            )
    return arms


def arms_table(arms: Sequence[Arm], group: str = "") -> str:
    """AJI+, AJI, PQ, mask AP where predictions have scores, and counts; of a group of micrographs, or of all."""
    rows = []
    for arm in arms:
        scores = scores_of(arm, group)
        mean = {score: value["mean"] for score, value in scores.items()}
        rows.append(
            (
                arm.name,
                with_spread(scores["aji_plus"]),
                f"{mean['aji']:.3f}",
                f"{mean['panoptic_quality']:.3f}",
                "" if mean.get("ap") is None else f"{mean['ap']:.3f}",
                *(f"{mean[count]:.0f}" for count in COUNTS),
            )
        )
    return table(("arm", "AJI+", "AJI", "PQ", "mask AP", "found", "missed", "false"), rows)


def scores_of(arm: Arm, group: str = "") -> dict[str, dict[str, float]]:
    """The arm's scores on a group of micrographs, or on all."""
    return arm.groups[group] if group else arm.scores


def groups_of(arms: Sequence[Arm]) -> list[str]:
    """The groups that every arm was scored on."""
    return [group for group in arms[0].groups if all(group in arm.groups for arm in arms)]


def error_reductions(arms: Sequence[Arm], group: str = "") -> dict[str, dict[str, float]]:
    """ERR in per cent of each arm (outer key) against each other, as `sempre.metrics.compare_arms`."""
    return compare_arms({arm.name: scores_of(arm, group)["aji_plus"]["mean"] for arm in arms})


def error_reduction_table(arms: Sequence[Arm], group: str = "") -> str:
    """A row an arm, a column for each that it is compared with."""
    reductions = error_reductions(arms, group)
    names = [arm.name for arm in arms]
    rows = [[name, *(f"{reductions[name][o]:+.1f} %" if o != name else "" for o in names)] for name in names]
    return table(("ERR", *(f"against {name}" for name in names)), rows)


def _read_arm(name: str, run: Path, labelled: LabelledSet) -> Arm:
    try:
        summary = read_json(run / "summary.json")
        scores, repeats = summary["scores"], summary["repeats"]
        by_repeat = [{n: sample["aji_plus"] for n, sample in repeat["samples"].items()} for repeat in repeats]
    except FileNotFoundError as error:
        raise InputError(f"{run} has no summary.json: give the folder of a run that has finished") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run}/summary.json holds no scored repeats ({error!r}): give a run of instances") from error
    if lacking := sorted(set(by_repeat[0]) - set(labelled.names)):
        raise InputError(f"{run} was scored on {lacking[0]}, which is not in {labelled.folder}: give data= of the run")
    bins = [_size_bins(repeat, run / f"repeat-{number}/predictions", labelled) for number, repeat in enumerate(repeats)]
    return Arm(
        name=name,
        scores=scores,
        aji_plus={n: float(np.mean([of_repeat[n] for of_repeat in by_repeat])) for n in by_repeat[0]},
        size_bins={key: (np.array(sums) / len(repeats)).tolist() for key, sums in add_by_size(bins).items()},
        shown_aji_plus=by_repeat[0],
        predictions=run / "repeat-0/predictions",
        groups=summary.get("groups", {}),
    )


def _size_bins(repeat: Mapping, predictions: Path, labelled: LabelledSet) -> Mapping[str, list[int]]:
    """A repeat's counts by size; counted from its predictions where it was scored before there were these bins."""
    bins = repeat["summary"].get("size_bins", {})
    if bins.get("edges_px") == list(SIZE_EDGES):
        return bins
    counts = []
    for name in repeat["samples"]:
        micrograph = labelled.read(labelled.names.index(name))
        counts.append(count_by_size(true_overlap(micrograph, read_labels(predictions / f"{name}.tif"))))
    return add_by_size(counts)
