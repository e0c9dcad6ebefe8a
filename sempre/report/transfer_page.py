"""The page of how far prototypes carry: from their own micrograph to others of its sample, and to other samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from sempre.deploy.overlay import outlines
from sempre.frozen.prototype_study import KINDS
from sempre.frozen.prototypes import Clicks
from sempre.frozen.separability import Tokens
from sempre.metrics import with_spread
from sempre.report.figures import BLUISH_GREEN, SKY_BLUE, VERMILLION, arm_styles
from sempre.report.html import figure_row, heading, paragraph, picture, subheading, table, write_page
from sempre.report.prototype_page import draw_heat_map, sensitivity_figure, tokens_figure

SCORES = {"dice": ("Dice", 3), "iou": ("IoU", 3), "hd95_px": ("HD95 (px)", 1)}  # title and digits
SEPARABILITY = {"silhouette": "silhouette", "knn": "kNN", "knn_balanced": "kNN, sorts weighing the same"}
SIDE = 700  # px; the longer side of a picture
POINT = 6  # px; the radius of a point


@dataclass(frozen=True)
class TransferExample:
    """A micrograph to show: `pixels` uint8, the masks `true` and `predicted` and the `heat_map`, all `[H, W]`; and the
    micrograph that the prototypes are from with its points, the same one or another.
    """

    title: str
    reference: np.ndarray
    clicks: Clicks
    pixels: np.ndarray
    heat_map: np.ndarray
    predicted: np.ndarray
    true: np.ndarray


def draw_points(pixels: np.ndarray, clicks: Clicks) -> np.ndarray:
    """A picture uint8 `[h, w, 3]` of a micrograph uint8 `[H, W]` with its points: positive ones are green discs,
    negative ones red crosses, all edged in white. The longer side is at most `SIDE` px."""
    grey, scale = _shrink(pixels)
    image = Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
    draw = ImageDraw.Draw(image)
    for y, x in clicks.positive:
        x, y = (x + 0.5) * scale, (y + 0.5) * scale
        box = (x - POINT, y - POINT, x + POINT, y + POINT)
        draw.ellipse(box, fill=BLUISH_GREEN, outline="white", width=2)
    for y, x in clicks.negative:
        x, y = (x + 0.5) * scale, (y + 0.5) * scale
        for colour, width in (("white", 6), (VERMILLION, 3)):
            draw.line((x - POINT, y - POINT, x + POINT, y + POINT), fill=colour, width=width)
            draw.line((x - POINT, y + POINT, x + POINT, y - POINT), fill=colour, width=width)
    return np.asarray(image)


def draw_masks(pixels: np.ndarray, masks: Sequence[tuple[np.ndarray, tuple[int, int, int]]]) -> np.ndarray:
    """A picture uint8 `[h, w, 3]` of a micrograph uint8 `[H, W]` and the outlines of masks bool `[H, W]`, each in its
    colour, the last on top. The longer side is at most `SIDE` px."""
    grey, _ = _shrink(pixels)
    image = np.repeat(grey[..., None], 3, axis=2)
    for mask, colour in masks:
        shrunk = Image.fromarray(mask.astype(np.uint8) * 255).resize(grey.shape[::-1], Image.Resampling.BOX)
        image[outlines((np.asarray(shrunk) > 127).astype(np.int32), width=2)] = colour
    return image


def write_transfer_report(
    path: Path, summary: Mapping, examples: Sequence[TransferExample], planes: Mapping[str, Sequence[Tokens]]
) -> None:
    """Write the page that shows what `evaluate/transfer.py` measured and put into its `summary.json`.

    Args:
        planes: each backbone's cells on planes.
    """
    backbones = summary["backbones"]
    best = summary["best"]
    parts = [
        paragraph(
            f"{summary['data']}: {summary['micrographs']} micrographs of {len(summary['samples'])} samples"
            f"{_left_out(summary)}. Prototypes of {summary['points']} points of each sort, drawn {summary['draws']} "
            f"times, masks by the threshold {_rule(summary)}. On the same micrograph: each is segmented by its own "
            "points. On the same sample, and on other samples: by the points of one reference micrograph of each "
            "sample, drawn anew each time. Behind ±: the deviation over micrographs, then that over draws."
        ),
        heading("Protocols"),
        table(
            ("backbone", "prototypes on the", *_titles()),
            _kind_rows({name: result["protocols"] for name, result in backbones.items()}),
        ),
        *_group_tables(backbones),
        heading("Samples"),
        paragraph("Dice on the same micrograph."),
        table(("backbone", *summary["samples"]), _sample_rows(backbones, summary["samples"])),
        picture(samples_figure(backbones, summary["samples"])),
        heading("How far foreground and background lie apart"),
        paragraph(
            "Of each micrograph's cells, mean ± deviation over micrographs: the silhouette, and the share of a cell's "
            f"{summary['k']} nearest other cells that are of its sort. Where most cells are background, that share is "
            "high by chance; in the last column both sorts weigh the same, and chance is 0.5. A cell is foreground "
            "where most of it is; micrographs without such a cell do not count."
        ),
        table(
            ("backbone", "micrographs", *SEPARABILITY.values()),
            [
                (name, str(of["micrographs"]), *(with_spread(of[key]) for key in SEPARABILITY))
                for name, of in ((name, result["separability"]) for name, result in backbones.items())
            ],
        ),
    ]
    for name, shown in planes.items():
        parts += [subheading(name), figure_row([picture(tokens_figure(tokens), tokens.method) for tokens in shown])]
    parts += [
        heading(f"From sample to sample: {best}"),
        paragraph(
            "Mean Dice, ± the deviation over micrographs, of prototypes of one sample (row) used on another (column); "
            "on the diagonal, on other micrographs of the same sample."
        ),
        picture(matrix_figure(backbones[best]["matrix"])),
    ]
    if "points" in backbones[best]:
        parts += [
            heading(f"How many points, and which share: {best}"),
            picture(sensitivity_figure({**backbones[best], "threshold": _rule(summary)})),
            picture(percents_figure(backbones[best]["percent_by_sample"])),
        ]
    parts += [
        heading(f"Examples: {best}"),
        paragraph(
            "Points (green discs: on what is sought; red crosses: not), the score, the mask (blue), the labels (red)."
        ),
    ]
    for example in examples:
        parts += [
            subheading(example.title),
            figure_row(
                [
                    picture(draw_points(example.reference, example.clicks), "points"),
                    picture(_shrink_picture(draw_heat_map(example.pixels, example.heat_map)), "score"),
                    picture(draw_masks(example.pixels, [(example.predicted, SKY_BLUE)]), "mask"),
                    picture(draw_masks(example.pixels, [(example.true, VERMILLION)]), "labels"),
                ]
            ),
        ]
    write_page(path, f"Prototype transfer: {Path(summary['data']).name}", parts)


def samples_figure(backbones: Mapping[str, Mapping], samples: Sequence[str]) -> Figure:
    """Dice on the same micrograph, a bar for each backbone and sample, with the deviation over micrographs."""
    figure = Figure(figsize=(max(4.8, 1.2 * len(samples) + 2), 3.2))
    axes = figure.subplots()
    styles, width = arm_styles(backbones), 0.8 / len(backbones)
    for number, (name, result) in enumerate(backbones.items()):
        dice = [result["samples"][sample][KINDS[0]]["dice"] for sample in samples]
        places = np.arange(len(samples)) + (number - (len(backbones) - 1) / 2) * width
        axes.bar(
            places,
            [of["mean"] for of in dice],
            width,
            yerr=[of["std_micrographs"] for of in dice],
            color=styles[name]["color"],
            ecolor="0.4",
            capsize=2,
            label=name,
        )
    axes.set_xticks(range(len(samples)), samples)
    axes.set(ylabel="Dice", ylim=(0, 1))
    axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1))  # above the bars, whatever their heights
    return figure


def matrix_figure(matrix: Mapping[str, Mapping]) -> Figure:
    """Mean Dice from sample (row) to sample (column), with the deviation over micrographs."""
    samples = list(matrix)
    figure = Figure(figsize=(1.1 * len(samples) + 2.2, 0.9 * len(samples) + 1.4))
    axes = figure.subplots()
    dice = np.array([[_dice(matrix[origin][sample]) for sample in samples] for origin in samples])
    shown = axes.imshow(dice, vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(shown, label="Dice")
    for row, origin in enumerate(samples):
        for column, sample in enumerate(samples):
            cell = matrix[origin][sample]
            text = f"{cell['dice']['mean']:.3f}\n± {cell['dice']['std_micrographs']:.2f}" if cell else "–"
            colour = "black" if dice[row, column] > 0.6 else "white" if cell else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(samples)), samples)
    axes.set_yticks(range(len(samples)), samples)
    axes.set(xlabel="used on", ylabel="prototypes of")
    return figure


def percents_figure(by_sample: Mapping[str, Mapping]) -> Figure:
    """Dice over the per cent that threshold=top takes, a line for each sample."""
    figure = Figure(figsize=(6.0, 3.2))
    axes = figure.subplots()
    for sample, style in arm_styles(by_sample).items():
        of_sample = by_sample[sample]
        dice = [entry["dice"] for entry in of_sample.values()]
        axes.plot([float(percent) for percent in of_sample], dice, label=sample, markersize=4, **style)
    axes.set(xlabel="highest per cent taken", ylabel="Dice", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure


def spread_text(spread: Mapping[str, float], digits: int) -> str:
    """A score of `sempre.frozen.prototype_study.spread`: mean ± deviation over micrographs / over
    draws."""
    values = (spread[key] for key in ("mean", "std_micrographs", "std_draws"))
    mean, over_micrographs, over_draws = (f"{value:.{digits}f}" for value in values)
    return f"{mean} ± {over_micrographs} / {over_draws}"


def _titles() -> tuple[str, ...]:
    return tuple(title for title, _ in SCORES.values())


def _group_tables(backbones: Mapping[str, Mapping]) -> list[str]:
    """The protocols once more, of the micrographs of each group; nothing where there are no groups."""
    parts = []
    for group in backbones[next(iter(backbones))]["groups"]:
        of_group = {name: result["groups"][group] for name, result in backbones.items()}
        titles = ("backbone", "prototypes on the", *_titles())
        parts += [subheading(f"Group {group}"), table(titles, _kind_rows(of_group))]
    return parts


def _kind_rows(backbones: Mapping[str, Mapping]) -> list[tuple[str, ...]]:
    """A row of scores for each backbone and kind of use."""
    rows = []
    for name, by_kind in backbones.items():
        for kind, scores in by_kind.items():
            texts = [spread_text(scores[key], digits) if scores else "–" for key, (_, digits) in SCORES.items()]
            rows.append((name, kind, *texts))
    return rows


def _sample_rows(backbones: Mapping[str, Mapping], samples: Sequence[str]) -> list[tuple[str, ...]]:
    return [
        (name, *(spread_text(result["samples"][sample][KINDS[0]]["dice"], 3) for sample in samples))
        for name, result in backbones.items()
    ]


def _left_out(summary: Mapping) -> str:
    if not summary["left_out"]:
        return ""
    return f" ({summary['left_out']} more, without foreground or without background, have no points and are left out)"


def _rule(summary: Mapping) -> str:
    return f"top {summary['percent']:g} %" if summary["threshold"] == "top" else summary["threshold"]


def _dice(cell: Mapping | None) -> float:
    return cell["dice"]["mean"] if cell else np.nan


def _shrink(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Pixels uint8 `[H, W]` whose longer side is at most `SIDE` px, and by what factor they shrank."""
    scale = min(1.0, SIDE / max(pixels.shape))
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)), scale


def _shrink_picture(image: np.ndarray) -> np.ndarray:
    scale = min(1.0, SIDE / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
