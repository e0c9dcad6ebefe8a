"""The page of a prototype segmentation's evaluation, and the picture of a heat map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from sempre.deploy.overlay import draw_overlay
from sempre.frozen.prototype_study import KINDS
from sempre.frozen.separability import Tokens
from sempre.images import percentile_normalise, to_uint8
from sempre.report.html import figure_row, heading, paragraph, picture, table, write_page

HEAT_SHARE = 0.6  # of a px of the picture that is the heat map's colour; the rest is the micrograph


@dataclass(frozen=True)
class Example:
    """A micrograph to show: `pixels` uint8, `true` and `predicted` label images and a `heat_map`, all `[H, W]`."""

    name: str
    pixels: np.ndarray
    true: np.ndarray
    heat_map: np.ndarray
    predicted: np.ndarray
    caption: str


def _by_group(summary: Mapping) -> list[str]:
    """Scores of each group of micrographs, where they were scored apart."""
    rows = [
        (group, f"{mean['dice']:.3f}", f"{mean['iou']:.3f}", f"{mean['hd95_px']:.1f}", f"{aji_plus['mean']:.3f}")
        for group, mean in summary.get("mask_groups", {}).items()
        for aji_plus in (summary["groups"][group]["aji_plus"],)
    ]
    header = ("group", f"Dice by {summary['threshold']}", "IoU", "HD95 (px)", "AJI+")
    return [heading("Groups"), table(header, rows)] if rows else []


def draw_heat_map(pixels: np.ndarray, heat_map: np.ndarray) -> np.ndarray:
    """A picture uint8 `[H, W, 3]` of scores `[H, W]` in colours over a micrograph uint8 `[H, W]`.

    Colours run from black over red to yellow (matplotlib's inferno), from the 1st percentile of the micrograph's scores
    to the 99th.
    """
    colours = matplotlib.colormaps["inferno"](percentile_normalise(heat_map))[..., :3]
    return to_uint8(HEAT_SHARE * colours + (1 - HEAT_SHARE) * pixels[..., None] / 255)


def write_prototype_report(path: Path, summary: Mapping, examples: Sequence[Example], tokens: Sequence[Tokens]) -> None:
    """Write the page that shows what `evaluate/prototypes.py` measured and put into its `summary.json`."""
    scores = summary["scores"]
    parts = [
        paragraph(
            f"{summary['data']}: prototypes from {summary['points_used']} points of each sort on "
            f"{summary['train']} training micrographs, scored on {summary['validation']} held-out ones. Backbone "
            f"{summary['backbone']}, frozen, cells of {summary['cell']} px. Instances by the threshold "
            f"{summary['threshold']} and a watershed: AJI+ {scores['aji_plus']['mean']:.3f}."
        ),
        heading("Thresholds"),
        paragraph(
            "Mean over the held-out micrographs. top: the highest per cent; otsu, mixture: adapted to each heat map; "
            "clicks: fitted to the scores at the points. HD95: 95th percentile of the distance between boundaries."
        ),
        table(
            ("threshold", "Dice", "IoU", "HD95 (px)"),
            [
                (rule, f"{mean['dice']:.3f}", f"{mean['iou']:.3f}", f"{mean['hd95_px']:.1f}")
                for rule, mean in summary["masks"].items()
            ],
        ),
        *_by_group(summary),
        heading("How many points, and which share"),
        picture(sensitivity_figure(summary)),
        heading("Transfer"),
        paragraph(
            "Prototypes of one micrograph (row) used on another (column): mean Dice on the "
            + ", the ".join(
                f"{kind} {'–' if value is None else f'{value:.3f}'}"
                for kind, value in zip(KINDS, map(summary["transfer"]["mean"].get, KINDS), strict=True)
            )
            + ". Lines separate samples."
        ),
        picture(transfer_figure(summary["transfer"])),
        heading("Cells and prototypes"),
        figure_row([picture(tokens_figure(shown), shown.method) for shown in tokens]),
        heading("Held-out micrographs"),
    ]
    for example in examples:
        pictures = [
            picture(draw_overlay(example.pixels, example.true), f"{example.name}: labels"),
            picture(draw_heat_map(example.pixels, example.heat_map), "score"),
            picture(draw_overlay(example.pixels, example.predicted), example.caption),
        ]
        parts.append(figure_row(pictures))
    write_page(path, f"Prototypes: {Path(summary['data']).name}", parts)


def sensitivity_figure(summary: Mapping) -> Figure:
    """Dice over the number of points, with the deviation over draws, and over the per cent that is taken."""
    figure = Figure(figsize=(9.0, 3.2))
    points_axes, percent_axes = figure.subplots(1, 2, sharey=True)
    counts = [int(count) for count in summary["points"]]
    means, deviations = ([entry["dice"][key] for entry in summary["points"].values()] for key in ("mean", "std"))
    points_axes.errorbar(counts, means, deviations, marker="o", capsize=3)
    points_axes.set(
        xscale="log", xlabel="points of each sort", ylabel="Dice", title=f"threshold {summary['threshold']}"
    )
    points_axes.set_xticks(counts, [str(count) for count in counts], fontsize=7)
    points_axes.minorticks_off()
    percents = [float(percent) for percent in summary["percent"]]
    percent_axes.plot(percents, [entry["dice"] for entry in summary["percent"].values()], marker="o")
    percent_axes.set(xlabel="highest per cent taken", title="threshold top")
    for axes in (points_axes, percent_axes):
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
    return figure


def transfer_figure(transfer: Mapping) -> Figure:
    """The matrix of Dice, from row to column, lines between samples."""
    dice, samples = np.array(transfer["dice"]), transfer["samples"]
    figure = Figure(figsize=(6.4, 5.4))
    axes = figure.subplots()
    shown = axes.imshow(dice, vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(shown, label="Dice")
    ticks = range(len(samples))
    axes.set_xticks(ticks, transfer["names"], rotation=90, fontsize=7)
    axes.set_yticks(ticks, transfer["names"], fontsize=7)
    axes.set(xlabel="used on", ylabel="prototypes of")
    if len(set(samples)) < len(samples):
        for position in np.flatnonzero(np.array(samples[1:]) != np.array(samples[:-1])) + 0.5:
            axes.axhline(position, color="white", linewidth=1)
            axes.axvline(position, color="white", linewidth=1)
    return figure


def tokens_figure(tokens: Tokens) -> Figure:
    """Cells by what they show, prototypes as stars."""
    figure = Figure(figsize=(4.8, 4.4))
    axes = figure.subplots()
    for foreground, colour, label in ((False, "0.6", "background"), (True, "tab:orange", "foreground")):
        shown = tokens.points[tokens.foreground == foreground]
        axes.scatter(*shown.T, s=4, color=colour, label=label, linewidths=0)
    for points, colour, label in (
        (tokens.positive, "tab:red", "positive prototype"),
        (tokens.negative, "tab:blue", "negative prototype"),
    ):
        axes.scatter(*points.T, s=160, marker="*", color=colour, edgecolors="black", label=label)
    axes.set(xticks=[], yticks=[])
    axes.legend(fontsize=7)
    return figure
