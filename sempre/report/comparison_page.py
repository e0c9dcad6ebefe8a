"""Finished runs that were scored on the same held-out micrographs: their arms, and the page that shows them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.files import read_json
from sempre.images import read_labels
from sempre.metrics import SIZE_EDGES, add_by_size, compare_arms, count_by_size, with_spread
from sempre.report.figures import FEW, recall_by_size, score_by_micrograph
from sempre.report.html import figure_rows, heading, paragraph, picture, subheading, table, write_page
from sempre.report.judged_overlay import draw_judged_overlay, draw_labels_overlay
from sempre.training.scoring import true_overlap

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


# Shown micrographs by their place among all; where there are few, who comes first here has the place.
PLACES = {"Worst": 0.0, "Best": 1.0, "Median": 0.5, "Lower quartile": 0.25, "Upper quartile": 0.75}


def write_comparison_report(path: Path, data: Path, runs: Mapping[str, Path]) -> None:
    """Write a page of one run or several, which were scored on held-out micrographs of the labelled set `data`.

    Args:
        runs: folder of each arm's run, by the arm's name.

    Raises:
        InputError: as `sempre.report.comparison_page.read_arms` does.
    """
    labelled = LabelledSet(data, components=_pieces_are_particles(runs.values()))
    arms = read_arms(runs, labelled)
    about = f"{data}: {len(labelled)} labelled micrographs, of which {len(arms[0].aji_plus)} are held out and scored."
    parts = [paragraph(about), *score_parts(arms), *overlay_parts(arms, labelled)]
    write_page(path, f"sempre: {labelled.folder.name}", parts)


def _pieces_are_particles(runs: Iterable[Path]) -> bool | None:
    """Whether the runs took each piece of a mask for a particle (`components=true`); None leaves masks as they are."""
    configurations = [Path(run) / "config.yaml" for run in runs]
    texts = [file.read_text(encoding="utf-8") for file in configurations if file.is_file()]
    return True if any("components: true" in text.splitlines() for text in texts) else None


def score_parts(arms: Sequence[Arm]) -> list[str]:
    """Tables of the arms, and their scores by size and by micrograph."""
    compared = [
        paragraph("ERR is the share of the column's error, 1 - AJI+, that the row's arm removes."),
        error_reduction_table(arms),
    ]
    return [
        heading("Arms"),
        paragraph(
            "AJI+ is the mean over the held-out micrographs (± standard deviation over repeats). A true instance is "
            "found if any prediction has an IoU of 0.4 or more with it; a prediction is false if no true one has."
        ),
        arms_table(arms),
        *(compared if len(arms) > 1 else []),
        *group_parts(arms),
        heading("By size"),
        paragraph(
            "Recall is the share of true instances that are found, by their own diameter, that of a disc of the same "
            f"area; markers are hollow where there are fewer than {FEW} true instances. False positives by theirs."
        ),
        picture(recall_by_size({arm.name: arm.size_bins for arm in arms}), "Recall and false positives by size"),
        heading("By micrograph"),
        picture(score_by_micrograph({arm.name: arm.aji_plus for arm in arms}), "AJI+ of each held-out micrograph"),
    ]


def group_parts(arms: Sequence[Arm]) -> list[str]:
    """The same tables for each group of micrographs that the arms were scored on apart."""
    parts = []
    for group in groups_of(arms):
        micrographs = arms[0].groups[group]["samples"]["mean"]
        parts += [subheading(f"{group}: {micrographs:.0f} micrographs"), arms_table(arms, group)]
        if len(arms) > 1:
            parts.append(error_reduction_table(arms, group))
    return parts


def overlay_parts(arms: Sequence[Arm], labelled: LabelledSet) -> list[str]:
    """Labels and each arm's predictions on the worst, the median, the best micrograph and the quartiles."""
    parts = [
        heading("Held-out micrographs"),
        paragraph(
            f"From the worst to the best by the AJI+ of {arms[-1].name}. Sky blue: found, as predicted; vermillion: "
            "missed, as labelled; yellow: false, as predicted; white: labels. Of repeats the first is shown."
        ),
    ]
    pictures = 1 + len(arms)
    columns = 2 if pictures in (2, 4) else 3
    for place, name in shown_micrographs(arms[-1].shown_aji_plus).items():
        micrograph = labelled.read(labelled.names.index(name))
        drawn = [picture(draw_labels_overlay(micrograph), "labels")]
        for arm in arms:
            overlay = draw_judged_overlay(micrograph, read_labels(arm.predictions / f"{name}.tif"))
            drawn.append(picture(overlay, f"{arm.name}: AJI+ {arm.shown_aji_plus[name]:.2f}"))
        height, width = micrograph.pixels.shape
        parts += [subheading(f"{place}: {name}, {width}x{height} px"), *figure_rows(drawn, columns)]
    return parts


def shown_micrographs(aji_plus: Mapping[str, float]) -> dict[str, str]:
    """Names of the micrographs to show, by what they are among all; worst first, none twice."""
    ranked = sorted(aji_plus, key=aji_plus.__getitem__)
    chosen: dict[int, str] = {}
    for place, share in PLACES.items():
        chosen.setdefault(round(share * (len(ranked) - 1)), place)
    return {chosen[position]: ranked[position] for position in sorted(chosen)}
