"""What a page shows of finished runs on the same held-out micrographs: one fine-tuning, or several arms."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sempre.data.labels.labelled import LabelledSet
from sempre.images import read_labels
from sempre.report.arms import Arm, arms_table, error_reduction_table, groups_of, read_arms
from sempre.report.figures.judged_overlay import draw_judged_overlay, draw_labels_overlay
from sempre.report.figures.recall_by_size import FEW, recall_by_size
from sempre.report.figures.score_by_micrograph import score_by_micrograph
from sempre.report.html import figure_rows, heading, paragraph, picture, subheading, write_page

# Shown micrographs by their place among all; where there are few, who comes first here has the place.
PLACES = {"Worst": 0.0, "Best": 1.0, "Median": 0.5, "Lower quartile": 0.25, "Upper quartile": 0.75}


def write_comparison_report(path: Path, data: Path, runs: Mapping[str, Path]) -> None:
    """Write a page of one run or several, which were scored on held-out micrographs of the labelled set `data`.

    Args:
        runs: folder of each arm's run, by the arm's name.

    Raises:
        InputError: as `sempre.report.arms.read_arms` does.
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
