"""The report of a study: one page, and a folder of figures with their numbers. What is missing is shown as missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sempre.files import read_json, write_csv
from sempre.metrics import compare_arms
from sempre.report.html import heading, paragraph, picture, subheading, table, write_page
from sempre.report.insides_page import insides_parts
from sempre.report.study_figures import (
    BASELINE,
    METHODS,
    TITLES,
    count_figure,
    image_curve_figure,
    label_curve_figure,
    micrograph_figure,
    save_figure,
    size_figure,
)
from sempre.study.cost import PARAMETERS
from sempre.study.design import StudyOptions, detail_size
from sempre.study.results import (
    Result,
    Saturation,
    fit_saturation,
    group_members,
    mean_of_micrographs,
    paired_differences,
    repeats_of,
    result_rows,
)

COUNTS = ("correct", "missed", "false_positives")
FEW_MICROGRAPHS = 6  # below, Wilcoxon's test cannot come to 0.05


@dataclass(frozen=True)
class Study:
    """All that the page is made from.

    `images` are the unlabelled micrographs that FCMAE of all was trained on, `labelled` the labelled ones in training;
    `baseline` are the classical baseline's scores of each micrograph, `left_out` sentences on arms that are not there.
    """

    options: StudyOptions
    folder: Path
    results: Sequence[Result]
    baseline: Mapping[str, Mapping]
    groups: Mapping[str, str]
    images: int
    labelled: int
    left_out: Sequence[str] = ()

    @property
    def arms(self) -> list[str]:
        return [arm for arm in TITLES if any(result.cell.arm == arm for result in self.finetunings)]

    @property
    def finetunings(self) -> list[Result]:
        return [result for result in self.results if result.cell.stage == "finetune"]

    @property
    def members(self) -> dict[str, list[str]]:
        """The scored micrographs by group."""
        names = {name: self.groups.get(name, "all micrographs") for name in self.baseline}
        return group_members(self.results, names) or {"all micrographs": sorted(self.baseline)}

    def baseline_score(self, names: Sequence[str]) -> float:
        return float(np.mean([self.baseline[name]["aji_plus"] for name in names]))


def write_study_report(study: Study) -> dict:
    """Write `report.html`, `table.csv`, `figures/` and return what is missing and the curve's answers.

    The page holds all; figures are PDF and PNG, each with its CSV.
    """
    figures = study.folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    rows = result_rows(study.results, study.groups)
    write_csv(study.folder / "table.csv", rows)
    curves, answers = _image_curves(study, figures)
    parts = [
        *_about(study, rows),
        *[part for method in study.options.methods for part in _method_parts(study, method, figures)],
        *curves,
        *_label_curves(study, figures),
        *_insides(study.folder / "insides"),
        heading("Every cell"),
        *_cell_table(rows),
    ]
    write_page(study.folder / "report.html", f"Study: {study.options.name}", parts)
    return {"missing": [row["cell"] for row in rows if row["state"] != "finished"], "images": answers}


def _about(study: Study, rows: Sequence[Mapping]) -> list[str]:
    options, micrographs = study.options, sum(map(len, study.members.values()))
    lacking = [row for row in rows if row["state"] != "finished"]
    parts = [
        paragraph(
            f"{study.labelled} labelled micrographs to train on, {micrographs} that are scored, {study.images} "
            f"unlabelled ones to pretrain on; {options.repeats} repeats. Cells (trainings): {len(rows)} are planned."
        ),
        *[paragraph(sentence) for sentence in study.left_out],
    ]
    if lacking:
        parts.append(heading(f"Missing: {len(lacking)} of {len(rows)} cells"))
        parts.append(paragraph("Means are over the repeats that are there. Start the study again to try these again."))
        parts.append(table(("cell", "state", "reason"), [(r["cell"], r["state"], r["reason"]) for r in lacking]))
    return parts


def _method_parts(study: Study, method: str, figures: Path) -> list[str]:
    """Scores by size, ERR and tests of every pair, and each micrograph, of one method."""
    small = detail_size(study.options)
    return [
        heading(METHODS[method]),
        *_sizes(study, method, figures),
        subheading(f"Every pair of arms, {small}"),
        *_pairs(study, method, small, figures),
        subheading(f"Each test micrograph, {small}"),
        *_micrographs(study, method, small, figures),
    ]


def _sizes(study: Study, method: str, figures: Path) -> list[str]:
    rows = []
    for group, names in study.members.items():
        for size in study.options.sizes:
            for arm in study.arms:
                planned = [
                    r for r in study.finetunings if (r.cell.recipe, r.cell.size, r.cell.arm) == (method, size, arm)
                ]
                values = [r.aji_plus(names) for r in repeats_of(study.results, recipe=method, size=size, arm=arm)]
                if planned:
                    row = {"group": group, "size": size, "parameters_millions": PARAMETERS[size], "arm": arm}
                    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
                    row |= {"repeats": len(values), "mean": float(np.mean(values)) if values else ""}
                    rows.append(row | {"std": float(spread) if values else ""})
    baseline = {group: study.baseline_score(names) for group, names in study.members.items()}
    figure = size_figure(rows, baseline, PARAMETERS)
    save_figure(figure, rows, figures, f"sizes_{method}")
    shown = [(r["size"], r["group"], TITLES[r["arm"]], _mean(r["mean"], r["std"]), str(r["repeats"])) for r in rows]
    shown += [("", group, BASELINE, f"{score:.3f}", "") for group, score in baseline.items()]
    caption = (
        "AJI+, mean ± standard deviation over repeats, against the backbone's size; a marker's area goes with its "
        "parameters. A cross at the bottom is an arm without any repeat."
    )
    return [
        picture(figures / f"sizes_{method}.png", caption),
        table(("size", "group", "arm", "AJI+", "repeats"), shown),
    ]


def _mean(mean: float | str, deviation: float | str) -> str:
    return "missing" if mean == "" else f"{mean:.3f} ± {deviation:.3f}"


def _scores_by_arm(study: Study, method: str, size: str) -> dict[str, dict[str, float]]:
    """AJI+ of each micrograph, a mean over repeats, of the baseline and the arms that have any."""
    scores = {BASELINE: {name: sample["aji_plus"] for name, sample in study.baseline.items()}}
    for arm in study.arms:
        if repeats := repeats_of(study.results, recipe=method, size=size, arm=arm):
            scores[arm] = mean_of_micrographs(repeats)
    return scores


def _pairs(study: Study, method: str, size: str, figures: Path) -> list[str]:
    """ERR, the difference with its interval, and p, of every pair on each group."""
    scores, rows = _scores_by_arm(study, method, size), []
    for group, names in study.members.items():
        own = {TITLES.get(arm, arm): {name: values[name] for name in names} for arm, values in scores.items()}
        reductions = compare_arms({arm: float(np.mean(list(values.values()))) for arm, values in own.items()})
        for (first, second), difference in paired_differences(own).items():
            rows.append(
                {
                    "group": group,
                    "arm": second,
                    "against": first,
                    "err_percent": reductions[second][first],
                    "difference": difference.mean,
                    "low": difference.low,
                    "high": difference.high,
                    "p": difference.p,
                    "micrographs": difference.micrographs,
                }
            )
    write_csv(figures / f"pairs_{method}.csv", rows)
    shown = [
        (
            r["arm"],
            r["against"],
            r["group"],
            f"{r['err_percent']:+.1f} %",
            f"{r['difference']:+.3f} [{r['low']:+.3f}, {r['high']:+.3f}]",
            f"{r['p']:.2g}" if r["micrographs"] >= FEW_MICROGRAPHS else f"{r['p']:.2g} (n = {r['micrographs']})",
        )
        for r in rows
    ]
    note = (
        "ERR is the share of the error 1 - AJI+ of the arm in the second column that the first removes. The "
        "difference of AJI+ is over micrographs, with its 95 % interval by paired bootstrap; p is of Wilcoxon's "
        f"signed-rank test, two-sided, not corrected for the number of pairs. With fewer than {FEW_MICROGRAPHS} "
        "micrographs no p can come below 0.05. Repeats are averaged first: "
        "the interval is of other micrographs, not of other trainings."
    )
    return [table(("arm", "against", "group", "ERR", "difference", "p"), shown), paragraph(note)]


def _micrographs(study: Study, method: str, size: str, figures: Path) -> list[str]:
    scores = _scores_by_arm(study, method, size)
    best = scores[list(scores)[-1]]
    order = [name for names in study.members.values() for name in sorted(names, key=lambda name: best.get(name, 0))]
    group_of = {name: group for group, names in study.members.items() for name in names}
    rows = [
        {"micrograph": name, "group": group_of[name], **{arm: values.get(name, "") for arm, values in scores.items()}}
        for name in order
    ]
    save_figure(micrograph_figure(scores, order), rows, figures, f"micrographs_{method}")
    counted = []
    for group, names in study.members.items():
        own = {BASELINE: [study.baseline]}
        for arm in study.arms:
            if repeats := repeats_of(study.results, recipe=method, size=size, arm=arm):
                own[arm] = [repeat.samples for repeat in repeats]
        for arm, repeats in own.items():
            sums = {key: float(np.mean([sum(r[name][key] for name in names) for r in repeats])) for key in COUNTS}
            counted.append({"group": group, "arm": TITLES.get(arm, arm), **sums})
    save_figure(count_figure(counted, list(study.members)), counted, figures, f"counts_{method}")
    return [
        picture(
            figures / f"micrographs_{method}.png", "AJI+ of each test micrograph, means over repeats, group by group"
        ),
        picture(
            figures / f"counts_{method}.png", "Instances found, missed and false at an IoU of 0.4, means over repeats"
        ),
    ]


def _image_curves(study: Study, figures: Path) -> tuple[list[str], list[dict]]:
    """How many micrographs: FCMAE on 0, 1, 2, 4 … all images."""
    small, parts, answers = detail_size(study.options), [], []
    for method in study.options.curve_methods:
        counts = sorted({r.cell.images for r in study.finetunings if r.cell.images and r.cell.recipe == method})
        if not counts:
            continue
        points, levels, fits = {}, {}, {}
        labels = {"recipe": method, "size": small}
        for group, names in study.members.items():
            kinds = {
                0: {"arm": "none"},
                **{n: {"arm": "fcmae", "images": n} for n in counts},
                study.images: {"arm": "fcmae"},
            }
            found = {
                n: [r.aji_plus(names) for r in repeats_of(study.results, **labels, **kind)] for n, kind in kinds.items()
            }
            points[group] = {n: values for n, values in found.items() if values}
            others = {a: repeats_of(study.results, **labels, arm=a) for a in study.arms if a != "fcmae"}
            levels[group] = {a: float(np.mean([r.aji_plus(names) for r in rs])) for a, rs in others.items() if rs}
            levels[group][BASELINE] = study.baseline_score(names)
            flat = [(n, value) for n, values in points[group].items() for value in values]
            fits[group] = fit_saturation(*np.array(flat, float).reshape(-1, 2).T)
            answers += _answers(method, group, fits[group], levels[group], study.images)
        if not any(points.values()):
            continue
        rows = [
            {"group": group, "images": n, "repeat": number, "aji_plus": value}
            for group, of_group in points.items()
            for n, values in of_group.items()
            for number, value in enumerate(values)
        ]
        points = {group: of_group for group, of_group in points.items() if of_group}
        save_figure(image_curve_figure(points, fits, levels), rows, figures, f"images_{method}")
        caption = (
            "AJI+ against the number of images FCMAE was pretrained on, all for as many steps; the band is the "
            "standard error over repeats. Dashed: the saturating curve, to ten times the images, with its 95 % band."
        )
        parts += [heading(f"How many micrographs do I need? {METHODS[method]}, {small}")]
        parts += [picture(figures / f"images_{method}.png", caption)]
        own = [answer for answer in answers if answer["method"] == method]
        parts += [table(("question", "group", "answer"), [(a["question"], a["group"], a["answer"]) for a in own])]
        write_csv(figures / f"images_{method}_answers.csv", own)
    return parts, answers


def _answers(
    method: str, group: str, fit: Saturation | None, levels: Mapping[str, float], images: int
) -> list[dict[str, str]]:
    """What the fitted curve says, in words; nothing is claimed where there is none."""
    if fit is None:
        none = "no curve: it takes four numbers of images or more, and scores that rise and level off"
        return [{"method": method, "group": group, "question": "fit a - b n^-c", "answer": none}]
    told = {"fit a - b n^-c": f"a = {fit.a:.3f}, b = {fit.b:.3f}, c = {fit.c:.2f}"}
    for arm in ("none", "imagenet"):
        if arm in levels:
            n = fit.reaches(levels[arm])
            better = "from one image on" if fit.at(1.0) >= levels[arm] else "not reached by the curve"
            beyond = " (more than there were)" if n and n > images else ""
            told[f"n at which FCMAE passes {TITLES[arm]}"] = f"{n:.0f}{beyond}" if n else better
    far = 10 * images
    told[f"ten times more, {far} images"] = f"{fit.at(far):.3f} ± {fit.half_width(far):.3f}, now {fit.at(images):.3f}"
    return [{"method": method, "group": group, "question": key, "answer": value} for key, value in told.items()]


def _label_curves(study: Study, figures: Path) -> list[str]:
    """How many labels: all arms on shares of the labelled micrographs."""
    small, parts = detail_size(study.options), []
    for method in study.options.curve_methods:
        counts = sorted({r.cell.labels for r in study.finetunings if r.cell.labels and r.cell.recipe == method})
        if not counts:
            continue
        points: dict[str, dict[str, dict[int, list[float]]]] = {}
        for group, names in study.members.items():
            for arm in study.arms:
                for count in (*counts, 0):
                    repeats = repeats_of(study.results, recipe=method, size=small, arm=arm, labels=count)
                    if repeats:
                        values = [repeat.aji_plus(names) for repeat in repeats]
                        points.setdefault(group, {}).setdefault(arm, {})[count or study.labelled] = values
        if not points:
            continue
        rows = [
            {"group": group, "arm": arm, "labels": count, "repeat": number, "aji_plus": value}
            for group, of_group in points.items()
            for arm, of_arm in of_group.items()
            for count, values in of_arm.items()
            for number, value in enumerate(values)
        ]
        baseline = {group: study.baseline_score(names) for group, names in study.members.items()}
        save_figure(label_curve_figure(points, baseline), rows, figures, f"labels_{method}")
        caption = "AJI+ against the number of labelled micrographs; bands are standard errors over repeats."
        parts += [heading(f"How many labels? {METHODS[method]}, {small}")]
        parts += [picture(figures / f"labels_{method}.png", caption)]
    return parts


def _insides(folder: Path) -> list[str]:
    """Feature maps and activation maps, where evaluate/insides.py has left them."""
    if not (folder / "summary.json").is_file():
        return []
    return [heading("Inside the networks"), *insides_parts(folder, read_json(folder / "summary.json"))]


def _cell_table(rows: Sequence[Mapping]) -> list[str]:
    columns = ["cell", "state", *[name for name in dict.fromkeys(n for row in rows for n in row) if "aji_plus" in name]]
    shown = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    return [paragraph("The whole table, with counts and reasons, is in table.csv."), table(columns, shown)]


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
