"""The page that shows masks of several methods side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from sempre.images.resize import resize_to
from sempre.report.figures import (
    BLACK,
    BLUE,
    BLUISH_GREEN,
    ORANGE,
    REDDISH_PURPLE,
    SKY_BLUE,
    VERMILLION,
    YELLOW,
)
from sempre.report.html import figure_rows, heading, paragraph, picture, table, write_page
from sempre.report.prototype_page import draw_heat_map

RIGHT, WRONG, MISSED = BLUISH_GREEN, VERMILLION, BLUE
CLUSTERS = {
    "blue": BLUE,
    "orange": ORANGE,
    "green": BLUISH_GREEN,
    "purple": REDDISH_PURPLE,
    "yellow": YELLOW,
    "light blue": SKY_BLUE,
    "red": VERMILLION,
    "black": BLACK,
}  # from the darkest cluster on
TINT = 0.55  # of a px of the picture that is the colour; the rest is the micrograph
LARGEST = 480  # px; larger pictures are shown smaller
A_ROW = 4  # pictures
COLUMNS = {
    "labelled_micrographs": "labelled micrographs",
    "foreground_share": "foreground",
    "iou": "IoU",
    "dice": "Dice",
    "hd95_px": "HD95 (px)",
    "best_iou": "IoU, best clusters",
    "aji_plus": "AJI+",
}


@dataclass(frozen=True)
class Example:
    """A micrograph to show: `pixels` uint8 `[H, W]` or `[H, W, 3]`, where there are labels the `true` mask, and each
    method's mask, bool, and clusters, int, all `[H, W]`; clusters are None of what made none."""

    name: str
    pixels: np.ndarray
    true: np.ndarray | None = None
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    clusters: dict[str, np.ndarray | None] = field(default_factory=dict)


@dataclass(frozen=True)
class AttentionExample:
    """Where the heads of `backbone` look in a micrograph: `pixels` uint8 `[h, w]`, `heads` float32 `[heads, h, w]`."""

    backbone: str
    name: str
    pixels: np.ndarray
    heads: np.ndarray


def draw_mask(pixels: np.ndarray, true: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A picture uint8 `[H, W, 3]` of a mask over a micrograph uint8 `[H, W]` or `[H, W, 3]`; both masks bool.

    Green is foreground that is right, orange what is not foreground, blue foreground that is missed.
    """
    return _tinted(pixels, [(true & mask, RIGHT), (mask & ~true, WRONG), (true & ~mask, MISSED)])


def draw_clusters(pixels: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """A picture uint8 `[H, W, 3]` of clusters `[H, W]`, 0 to 7, over a micrograph uint8 `[H, W]` or `[H, W, 3]`."""
    return _tinted(pixels, [(clusters == number, colour) for number, colour in enumerate(CLUSTERS.values())])


def _tinted(pixels: np.ndarray, places: Sequence[tuple[np.ndarray, tuple[int, int, int]]]) -> np.ndarray:
    drawn = np.repeat(np.atleast_3d(pixels), 3 if pixels.ndim == 2 else 1, axis=2).astype(np.float32)
    for place, colour in places:
        drawn[place] = (1 - TINT) * drawn[place] + TINT * np.array(colour, np.float32)
    return drawn.round().astype(np.uint8)


def write_cluster_report(
    path: Path, summary: Mapping, examples: Sequence[Example], attention: Sequence[AttentionExample]
) -> None:
    """Write the page of what `evaluate/clusters.py` measured and put into its `summary.json`."""
    count = len(summary["micrographs"])
    chosen = {
        "border": "Foreground are the clusters that touch the border less.",
        "bright": "Foreground are the brighter clusters.",
        "clicks": "Foreground are the clusters that were clicked.",
        "hand": "Which clusters are foreground was given.",
    }[summary["chosen_by"]]
    numbers = list(CLUSTERS)[: summary["clusters"]]
    legend = ", ".join(f"{number} {name}" for number, name in enumerate(numbers, start=1))
    colours = f"Clusters from the darkest to the brightest: {legend}."
    parts = [
        paragraph(
            f"{summary['data']}: {count} {'held-out ' if summary['labelled'] else ''}micrographs, each cut into "
            f"{summary['clusters']} clusters on its own, without labels. {chosen} "
            + (
                "“Best clusters” looks at the truth to choose them, and bounds what a better rule could gain. "
                "AJI+ is of the instances that a watershed makes of the masks. "
                if summary["labelled"]
                else ""
            )
            + "Means over the micrographs."
        ),
        table(["method", *columns(summary["arms"]).values()], table_rows(summary["arms"])),
        *_group_tables(summary["arms"]),
        heading("Masks"),
        paragraph(
            "Green: right; orange: no foreground; blue: missed." if summary["labelled"] else "Green: foreground."
        ),
        *([] if summary["labelled"] else [paragraph(colours)]),
    ]
    for example in examples:
        drawn = [(example.pixels, example.name)]
        if example.true is not None:
            drawn = [(example.pixels, f"{example.name}, {100 * example.true.mean():.0f} % foreground")]
        for arm, mask in example.masks.items():
            sample = summary["arms"][arm]["samples"][example.name]
            if example.true is not None:
                drawn.append((draw_mask(example.pixels, example.true, mask), f"{arm}: IoU {sample['iou']:.2f}"))
                continue
            share = f"{100 * sample['foreground_share']:.0f} % foreground"
            drawn.append((draw_mask(example.pixels, mask, mask), f"{arm}: {share}"))
            if (clusters := example.clusters[arm]) is not None:
                drawn.append((draw_clusters(example.pixels, clusters), f"{arm}: clusters"))
        parts += rows_of_pictures(drawn)
    if attention:
        parts += [heading("Attention of the class token"), *attention_parts(attention)]
    write_page(path, f"Clusters: {Path(summary['data']).name}", parts)


def attention_parts(examples: Sequence[AttentionExample]) -> list[str]:
    """A page's parts: each image beside its heads."""
    parts = [paragraph("Each head of the layer that is read out; colours from its lowest to its highest value.")]
    for example in examples:
        parts += rows_of_pictures(draw_attention(example))
    return parts


def draw_attention(example: AttentionExample) -> list[tuple[np.ndarray, str]]:
    """The image, uint8 `[h, w]`, and each head's map over it, uint8 `[h, w, 3]`, with captions."""
    heads = [(draw_heat_map(example.pixels, head), f"head {number}") for number, head in enumerate(example.heads)]
    return [(example.pixels, f"{example.name}, {example.backbone}"), *heads]


def columns(arms: Mapping[str, Mapping]) -> dict[str, str]:
    """The table's columns, of figures that some method has, and their titles."""
    return {name: title for name, title in COLUMNS.items() if any(name in arm for arm in arms.values())}


def table_rows(arms: Mapping[str, Mapping]) -> list[list[str]]:
    """A row of text for each method, its name first; blank where a figure is not defined."""
    return [[name, *(cell(arm.get(column), column) for column in columns(arms))] for name, arm in arms.items()]


def _group_tables(arms: Mapping[str, Mapping]) -> list[str]:
    """A table for each group of micrographs, where they were scored apart."""
    parts = []
    for group in next(iter(arms.values())).get("groups", {}):
        of_group = {name: arm["groups"][group] for name, arm in arms.items()}
        parts += [heading(f"Group {group}"), table(["method", *columns(of_group).values()], table_rows(of_group))]
    return parts


def cell(value: float | None, column: str) -> str:
    if value is None:
        return ""
    if column == "labelled_micrographs":
        return str(value)
    return f"{value:.1f}" if column.endswith("_px") else f"{value:.3f}"


def rows_of_pictures(drawn: Sequence[tuple[np.ndarray, str]]) -> list[str]:
    """Pictures with captions, in rows of four."""
    return figure_rows([picture(_smaller(pixels), caption) for pixels, caption in drawn], A_ROW)


def _smaller(pixels: np.ndarray) -> np.ndarray:
    scale = min(1.0, LARGEST / max(pixels.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    if pixels.ndim == 2:
        return resize_to(pixels, (height, width))
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
