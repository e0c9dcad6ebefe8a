"""Figures of a study at a journal's column width: told apart in grey too.

Colours are Okabe and Ito's; beside them arms differ by marker and by line, counts by grey and hatching.

Every figure has its numbers as rows beside it, which `save_figure` writes as CSV with the PDF and the PNG.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sempre.data.groups import UNKNOWN
from sempre.files import whole_or_absent, write_csv
from sempre.report.figures import arm_styles
from sempre.study.results import Saturation

COLUMN, PAGE = 88 / 25.4, 180 / 25.4  # inches: one and two columns
STYLE: dict[Any, Any] = {
    "font.size": 7,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,
    "lines.linewidth": 1.0,
    "savefig.dpi": 300,
}
TITLES = {"none": "No pretraining", "imagenet": "ImageNet", "densecl": "DenseCL", "fcmae": "FCMAE"}
METHODS = {"mask_rcnn": "Mask R-CNN", "dense": "dense segmenter"}
BASELINE = "Otsu + watershed"
LINES = {"none": ":", "imagenet": "--", "densecl": "-.", "fcmae": "-"}
STACKED = (
    ("correct", "found", "0.35", ""),
    ("missed", "missed", "0.85", "////"),
    ("false_positives", "false", "1", ".."),
)
APART = 0.7  # of two numbers of images on the axis, powers of two: nearer ones would be written into each other
SMALLEST, LARGEST = 18.0, 130.0  # area of a marker, points squared


def styles() -> dict[str, dict]:
    """Colour, marker and line of each arm, the same in every figure."""
    return {arm: {**style, "linestyle": LINES[arm]} for arm, style in arm_styles(TITLES).items()}


def save_figure(figure: Figure, rows: Sequence[Mapping], folder: Path, name: str) -> None:
    """Write `name.pdf`, `.png` and `.csv`."""
    for suffix in ("pdf", "png"):
        with rc_context(STYLE), whole_or_absent(folder / f"{name}.{suffix}") as partial:
            figure.savefig(partial, format=suffix, dpi=300)
    write_csv(folder / f"{name}.csv", rows)


def panels(count: int, height: float = 2.5, sharey: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure of one column's width, or of two for several panels side by side."""
    with rc_context(STYLE):
        figure = Figure(figsize=(COLUMN if count == 1 else PAGE, height), layout="constrained")
        axes = figure.subplots(1, count, sharey=sharey, squeeze=False)[0]
    for each in axes:
        each.grid(alpha=0.3, linewidth=0.4)
        each.set_axisbelow(True)
    return figure, list(axes)


def size_figure(rows: Sequence[Mapping], baseline: Mapping[str, float], parameters: Mapping[str, float]) -> Figure:
    """AJI+ (mean ± deviation over repeats) against backbone size, a panel a group.

    Args:
        rows: of `group`, `size`, `arm`, `mean`, `std`; one without a mean is missing, and marked by a cross below.
        baseline: AJI+ of the classical baseline by group.
        parameters: of each size, in millions: a marker's area.
    """
    groups, sizes = list(baseline), list(dict.fromkeys(row["size"] for row in rows))
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    largest = max(parameters[size] for size in sizes)
    with rc_context(STYLE):
        figure, axes = panels(len(groups), 2.6)
        for each, group in zip(axes, groups, strict=True):
            for position, arm in enumerate(arms):
                own = {row["size"]: row for row in rows if row["group"] == group and row["arm"] == arm}
                shift = 0.12 * (position - (len(arms) - 1) / 2)
                _sizes_of_arm(each, own, sizes, shift, styles()[arm], parameters, largest)
            each.axhline(baseline[group], color="0.5", linewidth=0.8, linestyle=(0, (1, 1)))
            each.set_xticks(range(len(sizes)), [f"{size}\n{parameters[size]:g} M" for size in sizes])
            each.set(xlim=(-0.5, len(sizes) - 0.5), title=_title(group, axes), xlabel="backbone, parameters")
        axes[0].set_ylabel("AJI+")
        axes[0].margins(y=0.12)  # for large markers
        columns = 3 if len(groups) == 1 else 5
        figure.legend(handles=_handles(arms), loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _title(group: str, panels: Sequence[Axes]) -> str:
    """Of a group's panel: none where a single one holds what nothing tells apart."""
    return "" if group == UNKNOWN and len(panels) == 1 else group


def _sizes_of_arm(
    axes: Axes,
    rows: Mapping[str, Mapping],
    sizes: Sequence[str],
    shift: float,
    style: Mapping,
    parameters: Mapping[str, float],
    largest: float,
) -> None:
    there = [(number, rows[size]) for number, size in enumerate(sizes) if rows.get(size, {}).get("mean") != ""]
    there = [(number, row) for number, row in there if row]
    x = np.array([number + shift for number, _ in there])
    mean, deviation = (np.array([row[name] for _, row in there], float) for name in ("mean", "std"))
    axes.errorbar(x, mean, deviation, color=style["color"], linestyle=style["linestyle"], capsize=2, linewidth=0.9)
    areas = [max(SMALLEST, LARGEST * parameters[row["size"]] / largest) if len(sizes) > 1 else 30 for _, row in there]
    axes.scatter(x, mean, areas, color=[style["color"]], marker=style["marker"], edgecolor="k", linewidth=0.4, zorder=3)
    lacking = [number + shift for number, size in enumerate(sizes) if rows.get(size, {}).get("mean") == ""]
    transform = axes.get_xaxis_transform()
    axes.scatter(lacking, [0.03] * len(lacking), 14, color=[style["color"]], marker="x", transform=transform)


def _handles(arms: Sequence[str], baseline: bool = True) -> list[Line2D]:
    handles = [Line2D([], [], **styles()[arm], markersize=4, label=TITLES[arm]) for arm in arms]
    grey = [Line2D([], [], color="0.5", linewidth=0.8, linestyle=(0, (1, 1)), label=BASELINE)] if baseline else []
    return [*handles, *grey]


def micrograph_figure(scores: Mapping[str, Mapping[str, float]], order: Sequence[str]) -> Figure:
    """AJI+ of each micrograph in `order`, which is from worst to best within its group.

    Args:
        scores: by arm (the classical baseline among them) and micrograph, means over repeats.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(PAGE, 2.9), layout="constrained")
        axes = figure.subplots()
        x = np.arange(len(order))
        for arm, of_arm in scores.items():
            y = [of_arm.get(name, np.nan) for name in order]
            if arm == BASELINE:
                axes.plot(x, y, color="0.5", marker="_", linestyle="none", markersize=7, markeredgewidth=1.4)
            else:
                style = {**styles()[arm], "linestyle": "none"}
                axes.plot(x, y, **style, markersize=4.5, markeredgecolor="k", markeredgewidth=0.4, alpha=0.9)
        shown = [name if len(name) <= 18 else f"{name[:8]}…{name[-8:]}" for name in order]
        axes.set_xticks(x, shown if len(order) <= 60 else [""] * len(order), rotation=90, fontsize=6)
        axes.set(xlim=(-0.7, len(order) - 0.3), ylim=(-0.03, 1.03), ylabel="AJI+")
        axes.grid(alpha=0.3, axis="y", linewidth=0.4)
        handles = [
            Line2D([], [], **{**styles()[a], "linestyle": "none"}, label=TITLES[a]) for a in scores if a in TITLES
        ]
        grey = [Line2D([], [], color="0.5", marker="_", linestyle="none", label=BASELINE)] if BASELINE in scores else []
        figure.legend(handles=[*handles, *grey], loc="outside upper center", ncols=5, frameon=False)
    return figure


def count_figure(rows: Sequence[Mapping], groups: Sequence[str]) -> Figure:
    """Found, missed and false instances of each arm as stacked bars, a panel a group.

    Args:
        rows: of `group`, `arm` (a title) and the counts, means over repeats.
    """
    with rc_context(STYLE):
        figure, axes = panels(len(groups), 2.4, sharey=False)
        for each, group in zip(axes, groups, strict=True):
            own = [row for row in rows if row["group"] == group]
            left = np.zeros(len(own))
            for key, label, grey, hatch in STACKED:
                values = np.array([row[key] for row in own], float)
                bars = each.barh(
                    range(len(own)), values, left=left, color=grey, edgecolor="k", linewidth=0.5, hatch=hatch
                )
                if group == groups[0]:
                    bars.set_label(label)
                left += values
            each.set_yticks(range(len(own)), [row["arm"] for row in own])
            each.invert_yaxis()
            each.set(title=_title(group, axes), xlabel="instances")
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def image_curve_figure(
    points: Mapping[str, Mapping[int, Sequence[float]]],
    fits: Mapping[str, Saturation | None],
    levels: Mapping[str, Mapping[str, float]],
) -> Figure:
    """AJI+ against the number of pretraining images (log2; 0 stands at the left), a panel a group.

    Args:
        points: by group and number of images, AJI+ of each repeat; the band is the standard error of their mean.
        fits: the saturating curve of each group, if there is one; it is drawn to ten times the images, with its band.
        levels: by group, AJI+ of arms that saw no images of these, and of the classical baseline.
    """
    with rc_context(STYLE):
        figure, axes = panels(len(points), 2.6)
        for each, (group, of_group) in zip(axes, points.items(), strict=True):
            _image_curve(each, of_group, fits.get(group), levels[group])
            each.set(title=_title(group, axes), xlabel="pretraining images")
        axes[0].set_ylabel("AJI+")
        shown = [v for of_group in points.values() for values in of_group.values() for v in values]
        shown += [level for of_group in levels.values() for level in of_group.values()]
        margin = 0.15 * (max(shown) - min(shown)) + 0.02
        axes[0].set_ylim(min(shown) - margin, max(shown) + margin)  # whatever a wide band would take
        arms = [arm for arm in TITLES if any(arm in of_group for of_group in levels.values())]
        fitted = [Line2D([], [], color="k", linewidth=0.8, linestyle="--", label="a − b n^(−c), 95 %")]
        handles = [*_handles([*arms, "fcmae"]), *(fitted if any(fits.values()) else [])]
        figure.legend(handles=handles, loc="outside upper center", ncols=3 if len(points) == 1 else 5, frameon=False)
    return figure


def _image_curve(
    axes: Axes, points: Mapping[int, Sequence[float]], fit: Saturation | None, levels: Mapping[str, float]
) -> None:
    counts = sorted(points)
    x = np.array([count_position(count) for count in counts])
    mean = np.array([np.mean(points[count]) for count in counts])
    error = np.array([standard_error(points[count]) for count in counts])
    style = styles()["fcmae"]
    axes.fill_between(x, mean - error, mean + error, color=style["color"], alpha=0.25, linewidth=0)
    axes.plot(x, mean, **style, markersize=4)
    for arm, level in levels.items():
        line = (0, (1, 1)) if arm == BASELINE else styles()[arm]["linestyle"]
        axes.axhline(level, color="0.5" if arm == BASELINE else styles()[arm]["color"], linestyle=line, linewidth=0.9)
    ticks = list(counts)
    if fit:
        far = 10 * max(counts)
        n = np.geomspace(max(1, min(count for count in counts if count)), far, 100)
        curve, half = fit.at(n), fit.half_width(n)
        axes.plot(np.log2(n), curve, color="k", linewidth=0.8, linestyle="--")
        axes.fill_between(np.log2(n), curve - half, curve + half, color="k", alpha=0.10, linewidth=0)
        ticks.append(far)
    ticks = [a for a, b in pairwise(ticks) if count_position(b) - count_position(a) >= APART] + ticks[-1:]
    shown = ticks if len(ticks) <= 8 else [*ticks[:-2:2], *ticks[-2:]]
    axes.set_xticks([count_position(count) for count in shown], [str(count) for count in shown], rotation=45)


def count_position(count: int) -> float:
    """Where a number of images stands on the axis: its log2, and a place of its own, left of 1, for none."""
    return float(np.log2(count)) if count else -1.5


def standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def label_curve_figure(
    points: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]], baseline: Mapping[str, float]
) -> Figure:
    """AJI+ against the number of labelled micrographs, by group, arm and number: each repeat's AJI+."""
    with rc_context(STYLE):
        figure, axes = panels(len(points), 2.6)
        arms = list(dict.fromkeys(arm for of_group in points.values() for arm in of_group))
        for each, (group, of_group) in zip(axes, points.items(), strict=True):
            for arm, of_arm in of_group.items():
                counts = sorted(of_arm)
                mean = np.array([np.mean(of_arm[count]) for count in counts])
                error = np.array([standard_error(of_arm[count]) for count in counts])
                each.fill_between(
                    counts, mean - error, mean + error, color=styles()[arm]["color"], alpha=0.2, linewidth=0
                )
                each.plot(counts, mean, **styles()[arm], markersize=4)
            each.axhline(baseline[group], color="0.5", linewidth=0.8, linestyle=(0, (1, 1)))
            every = sorted({count for of_arm in of_group.values() for count in of_arm})
            each.set_xscale("log", base=2)
            each.set_xticks(every, [str(count) for count in every])
            each.minorticks_off()
            each.set(title=_title(group, axes), xlabel="labelled micrographs")
        axes[0].set_ylabel("AJI+")
        figure.legend(handles=_handles(arms), loc="outside upper center", ncols=3, frameon=False)
    return figure
