"""A micrograph on which one sees at a glance what was found, what was missed and what was invented."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.measure import find_contours

from sempre.data.labelled import LabelledMicrograph
from sempre.deploy.overlay import draw_scale_bar, text_font
from sempre.metrics import found_instances
from sempre.report.figures import SKY_BLUE, VERMILLION, YELLOW
from sempre.training.scoring import true_overlap

# Of Okabe and Ito's palette these three stay furthest from each other and from every grey, also for dichromats (green
# and reddish purple turn grey for some); what the labels say needs no judgement and is white.
FOUND, MISSED, FALSE, LABELS = SKY_BLUE, VERMILLION, YELLOW, (255, 255, 255)
DARK = (20, 20, 20)  # the halo of lines and the ground of the legend
SIDE = 1000  # px; the longer side of every picture, whatever the micrograph's
LINE, THINNEST = 4.0, 2.0  # px of the picture: an outline's width, and that where all particles are small
HALO = 0.5  # line widths, on either side
SMALL = 8  # line widths; particles of smaller diameter are outlined around, not on, their border, and stay visible
SUPERSAMPLING = 2
LEGEND_SHARE = 1 / 26  # of the picture's width: the height of the legend's letters


@dataclass(frozen=True)
class Judgement:
    """Ids of the predicted instances that are right (`found`) and that are not (`false`), and of the `missed` true."""

    found: np.ndarray
    false: np.ndarray
    missed: np.ndarray


def judge(micrograph: LabelledMicrograph, predicted: np.ndarray) -> Judgement:
    """Which instances of a label image `[H, W]` are right, as `sempre.metrics.count_matches` counts them."""
    overlap = true_overlap(micrograph, predicted)
    found, finding = found_instances(overlap)
    true_ids = np.concatenate([np.unique(layer[layer > 0]) for layer in micrograph.layers])
    predicted_ids = np.unique(predicted[predicted > 0])
    return Judgement(
        found=predicted_ids[finding],
        false=np.delete(predicted_ids, finding),
        missed=np.delete(true_ids, found),
    )


def draw_judged_overlay(micrograph: LabelledMicrograph, predicted: np.ndarray) -> np.ndarray:
    """A picture uint8 `[h, w, 3]` of a micrograph and what was predicted of it, a label image `[H, W]`.

    Found instances have their predicted outline in sky blue, false ones theirs in yellow, missed ones the true outline
    in vermillion, on top. The longer side is 1000 px, whatever the micrograph's, and lines have the same width in all
    pictures, thinner only where half of the true instances are small. The legend below counts each kind.
    """
    judgement = judge(micrograph, predicted)
    kinds = [
        ("found", FOUND, _contours([predicted], judgement.found)),
        ("false", FALSE, _contours([predicted], judgement.false)),
        ("missed", MISSED, _contours(micrograph.layers, judgement.missed)),
    ]
    missed = len(judgement.missed)
    counts = [len(micrograph.areas) - 1 - missed, len(judgement.false), missed]
    legend = [(f"{count} {name}", colour) for (name, colour, _), count in zip(kinds, counts, strict=True)]
    picture = _draw_lines(micrograph, [(colour, contours) for _, colour, contours in kinds])
    return np.concatenate([picture, _draw_legend(legend, picture.shape[1])])


def draw_labels_overlay(micrograph: LabelledMicrograph) -> np.ndarray:
    """The labels' outlines in white, drawn as `draw_judged_overlay` draws: the picture to lay beside its pictures."""
    instances = np.arange(1, len(micrograph.areas))
    picture = _draw_lines(micrograph, [(LABELS, _contours(micrograph.layers, instances))])
    return np.concatenate([picture, _draw_legend([(f"{len(instances)} labelled", LABELS)], picture.shape[1])])


def _contours(layers: Iterable[np.ndarray], ids: np.ndarray) -> list[np.ndarray]:
    """Lines `[N, 2]` (x, y) in px from the micrograph's upper left corner, around the instances with `ids`.

    Where the micrograph's edge cuts an instance its line is open.
    """
    lines = []
    for labels in layers:
        boxes = ndimage.find_objects(labels)
        for label in ids[ids <= len(boxes)]:
            box = boxes[label - 1]
            if box is None:
                continue
            top, left = (max(0, side.start - 1) for side in box)
            mask = labels[top : box[0].stop + 1, left : box[1].stop + 1] == label
            corner = np.array([top, left]) + 0.5  # a px's centre
            lines += [(line + corner)[:, ::-1] for line in find_contours(mask.astype(np.float32), 0.5)]
    return lines


def _draw_lines(
    micrograph: LabelledMicrograph, kinds: Iterable[tuple[tuple[int, int, int], list[np.ndarray]]]
) -> np.ndarray:
    """A picture uint8 `[h, w, 3]` of a micrograph with lines of several colours, those of later ones on top, and a
    scale bar where the micrograph's scale is known."""
    scale = SIDE / max(micrograph.pixels.shape)
    height, width = (SUPERSAMPLING * max(1, round(side * scale)) for side in micrograph.pixels.shape)
    image = Image.fromarray(micrograph.pixels).resize((width, height), Image.Resampling.BICUBIC).convert("RGB")
    draw = ImageDraw.Draw(image)
    line_width = _line_width(micrograph.areas[1:], scale)
    kinds = [(colour, [_around(SUPERSAMPLING * line * scale, line_width) for line in lines]) for colour, lines in kinds]
    # All halos first: none may cut a line that was drawn before.
    for halo in (True, False):
        drawn = round(SUPERSAMPLING * line_width * (1 + 2 * HALO * halo))
        for colour, lines in kinds:
            for line in lines:
                draw.line([tuple(point) for point in line], fill=DARK if halo else colour, width=drawn, joint="curve")
    picture, size = np.asarray(image.reduce(SUPERSAMPLING)), micrograph.pixel_size_nm
    return picture if size is None else draw_scale_bar(picture, size / scale)


def _line_width(areas: np.ndarray, scale: float) -> float:
    """Of a micrograph's lines, in px of its picture; `areas` are its true instances'."""
    if not len(areas):
        return LINE
    diameter = scale * np.sqrt(4 / np.pi * np.median(areas))
    return float(np.clip(diameter / SMALL, THINNEST, LINE))


def _around(line: np.ndarray, width: float) -> np.ndarray:
    """The line, around small particles pushed outwards by half its width (px of the picture)."""
    size, width = np.ptp(line, axis=0).mean(), SUPERSAMPLING * width
    if size >= SMALL * width:
        return line
    centre = (line.min(axis=0) + line.max(axis=0)) / 2
    return centre + (line - centre) * (size + width) / size


def _draw_legend(entries: Sequence[tuple[str, tuple[int, int, int]]], width: int) -> np.ndarray:
    """A dark strip uint8 `[h, width, 3]` of words, each after a piece of its line."""
    size = max(8, round(width * LEGEND_SHARE))
    font = text_font(size)
    image = Image.new("RGB", (width, 2 * size), DARK)
    draw = ImageDraw.Draw(image)
    x = size / 2
    for text, colour in entries:
        draw.line([(x, size), (x + size, size)], fill=colour, width=max(2, size // 5))
        draw.text((x + 1.4 * size, size), text, font=font, fill="white", anchor="lm")
        x += 1.4 * size + draw.textlength(text, font=font) + 1.2 * size
    return np.asarray(image)
