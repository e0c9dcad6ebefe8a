"""Small figures: palettes, boxes, contact sheets, curves, recall by size, scores by micrograph, planned scans.

"Color Universal Design", https://jfly.uni-koeln.de/color/, 2008. Colours are RGB, 0 to 255.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy import ndimage

from sempre.deploy.overlay import draw_scale_bar, text_font
from sempre.files import ORIGIN, whole_or_absent
from sempre.metrics import size_bin_names
from sempre.scan.fields import Fields
from sempre.training.run_folder import read_log

BLACK = (0, 0, 0)
ORANGE = (230, 159, 0)
SKY_BLUE = (86, 180, 233)
BLUISH_GREEN = (0, 158, 115)
YELLOW = (240, 228, 66)
BLUE = (0, 114, 178)
VERMILLION = (213, 94, 0)
REDDISH_PURPLE = (204, 121, 167)

# Without yellow, which is pale on white paper; the first few differ most.
ARMS = ((BLUE, "o"), (ORANGE, "s"), (BLUISH_GREEN, "^"), (REDDISH_PURPLE, "D"), (BLACK, "v"), (SKY_BLUE, "P"))


def arm_styles(names: Iterable[str]) -> dict[str, dict]:
    """matplotlib's `color` and `marker` of each arm; from the seventh on they come again."""
    styles = {}
    for number, name in enumerate(names):
        colour, marker = ARMS[number % len(ARMS)]
        styles[name] = {"color": tuple(channel / 255 for channel in colour), "marker": marker}
    return styles


SIDE = 640  # px, longer side of the picture
LINE = 2  # px
DARK = (20, 20, 20)  # beside the lines, which bright ground would swallow


def draw_boxes(pixels: np.ndarray, boxes: np.ndarray, together: bool = True) -> np.ndarray:
    """A micrograph uint8 `[H, W]` as a picture uint8 `[h, w, 3]` with boxes `[P, 4]` (x0, y0, x1, y1 in its px).

    The first box has a vermillion outline. What all cover together has a yellow one, for lines between neighbours would
    hide what lies there; unless `together`, each has its own.
    """
    scale = SIDE / max(pixels.shape)
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).convert("RGB")
    drawn = np.array(picture)
    groups = [boxes] if together else [boxes[[position]] for position in range(len(boxes))]
    outlines = [_inner_edge(_covered(group * scale, (height, width))) for group in (*groups, boxes[:1])]
    drawn[ndimage.binary_dilation(np.any(outlines, axis=0))] = DARK
    for outline in outlines:
        drawn[outline] = YELLOW
    drawn[outlines[-1]] = VERMILLION
    return drawn


def _covered(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Px, bool `[h, w]`, within any of the boxes; each covers one at the least."""
    covered = np.zeros(shape, bool)
    for x0, y0, x1, y1 in np.round(boxes).astype(int):
        covered[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
    return covered


def _inner_edge(mask: np.ndarray) -> np.ndarray:
    """Px of the mask that are less than a line's width from its outside; the picture's border is outside."""
    return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=LINE)


TILE, GAP, TEXT = 168, 8, 30  # px


def contact_sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 6) -> np.ndarray:
    """Grey micrographs uint8 `[H, W]` of any sizes, each as large as its tile, as one picture uint8 `[h, w, 3]`."""
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (TILE + GAP) + GAP, rows * (TILE + TEXT + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for position, (pixels, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = GAP + position % columns * (TILE + GAP), GAP + position // columns * (TILE + TEXT + GAP)
        image = ImageOps.contain(Image.fromarray(pixels), (TILE, TILE))
        sheet.paste(image, (x + (TILE - image.width) // 2, y + (TILE - image.height) // 2))
        for line, text in enumerate(caption.splitlines()[:2]):
            draw.text((x, y + TILE + 2 + 13 * line), _fitting(text, font), fill="black", font=font)
    return np.asarray(sheet)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, its beginning cut away where it is wider than a tile: names differ at their ends."""
    while font.getlength(text) > TILE and len(text) > 2:
        text = f"…{text[2:]}"
    return text


def loss_curves(logs: Mapping[str, Path], title: str, colours: Mapping[str, object] | None = None) -> Figure:
    """The loss over the steps of each `log.jsonl`; a validation loss, where there is one, is dashed.

    `colours` by the logs' names are matplotlib's; without them its cycle is used.
    """
    figure = Figure(figsize=(6.0, 3.2))
    axes = figure.subplots()
    for number, (name, path) in enumerate(logs.items()):
        colour = colours[name] if colours else f"C{number}"
        lines = read_log(path)
        for kind, style in (("train", "-"), ("validation", "--")):
            points = [(line["step"], line["loss"]) for line in lines if line["kind"] == kind]
            if points:
                label = name if kind == "train" else f"{name}, validation"
                marker = "." if len(points) == 1 else None
                axes.plot(*zip(*points, strict=True), style, marker=marker, color=colour, label=label, linewidth=1.3)
    axes.set(title=title, xlabel="step", ylabel="loss")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


WIDE = (
    180 / 25.4
)  # inches, two columns of Nature's journals, https://www.nature.com/nature/for-authors/final-submission
LETTERS = 7  # pt, the largest that they take; 5 is the smallest
DOTS = 450  # an inch, of the PNG


def save_figure(figure: Figure, path: Path) -> None:
    """Write `path` with the suffixes .pdf (letters stay letters) and .png; each is whole or absent."""
    with whole_or_absent(path.with_name(f"{path.name}.pdf")) as partial, rc_context({"pdf.fonttype": 42}):
        figure.savefig(partial, format="pdf", dpi=DOTS, metadata={"Creator": ORIGIN, "CreationDate": None})
    with whole_or_absent(path.with_name(f"{path.name}.png")) as partial:
        figure.savefig(partial, format="png", dpi=DOTS, metadata={"Software": ORIGIN})


FEW = 10  # true instances; of fewer a recall says little, and its marker is hollow
DODGE = 0.07  # of a bin's width, between the markers of two arms


def recall_by_size(size_bins: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """Recall over the true instances' size, one line an arm; below it false positives over their own size.

    Args:
        size_bins: of each arm, its counts as `sempre.metrics.count_by_size` gives them, or their means over repeats.
            Bins that are empty at either end are not shown.
    """
    counted = {arm: {name: np.asarray(bins[name], float) for name in bins} for arm, bins in size_bins.items()}
    any_in_bin = np.sum([bins["true"] + bins["false_positives"] for bins in counted.values()], axis=0) > 0
    shown = np.arange(any_in_bin.argmax(), len(any_in_bin) - any_in_bin[::-1].argmax())
    true = next(iter(counted.values()))["true"]
    figure = Figure(figsize=(8.2, 5.4), layout="constrained")
    recall_axes, false_axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for number, (arm, style) in enumerate(arm_styles(counted).items()):
        bins = counted[arm]
        x = shown + DODGE * (number - (len(counted) - 1) / 2)
        recall = np.divide(bins["found"], bins["true"], out=np.full(len(true), np.nan), where=bins["true"] > 0)
        recall_axes.plot(x, recall[shown], **style, label=arm, linewidth=1.3, markersize=7)
        few = shown[(true > 0)[shown] & (true < FEW)[shown]]
        hollow = {**style, "markerfacecolor": "white", "linestyle": "none", "markersize": 7}
        recall_axes.plot(x[few - shown[0]], recall[few], **hollow)
        false_axes.plot(x, bins["false_positives"][shown], **style, linewidth=1.3, markersize=7)
    names = size_bin_names()
    false_axes.set_xticks(shown, [f"{names[k]} px\n{true[k]:.0f} true" for k in shown])
    false_axes.set(xlabel="equivalent diameter, and how many true instances there are", ylabel="false positives")
    false_axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    false_axes.set_ylim(bottom=0)
    recall_axes.set(ylim=(-0.03, 1.03), ylabel="recall")
    for axes in (recall_axes, false_axes):
        axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


NAMED = 100  # micrographs; of more there is no room for names
LONGEST_NAME = 18  # letters


def score_by_micrograph(scores: Mapping[str, Mapping[str, float]]) -> Figure:
    """AJI+ of each micrograph, in the order of the last arm's, worst first; one sort of marker an arm.

    A grey line joins what the arms make of the same micrograph.

    Args:
        scores: of each arm, the AJI+ of the same micrographs by name.
    """
    last = list(scores)[-1]
    names = sorted(scores[last], key=scores[last].__getitem__)
    values = np.array([[of_arm[name] for name in names] for of_arm in scores.values()])
    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    axes = figure.subplots()
    x = np.arange(len(names))
    size = 7 if len(names) <= NAMED // 3 else 4.5
    axes.vlines(x, values.min(axis=0), values.max(axis=0), color="0.8", linewidth=1.5, zorder=1)
    for (arm, style), of_arm in zip(arm_styles(scores).items(), values, strict=True):
        # What the order follows is a line; the others would zigzag.
        line = "-" if arm == last else "none"
        axes.plot(x, of_arm, **style, linestyle=line, linewidth=1, markersize=size, label=arm, alpha=0.85)
    if len(names) <= NAMED:
        axes.set_xticks(x, [_shortened(name) for name in names], rotation=90, fontsize=8 if len(names) <= 40 else 6)
    axes.set(xlim=(-0.7, len(names) - 0.3), ylim=(-0.03, 1.03), ylabel="AJI+")
    axes.set_xlabel(f"{len(names)} held-out micrographs, in the order of {last}")
    axes.grid(alpha=0.3, axis="y")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def _shortened(name: str) -> str:
    """The name without its middle where it is long: names differ at their ends."""
    if len(name) <= LONGEST_NAME:
        return name
    half = (LONGEST_NAME - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


STRENGTH = 0.65  # of the colour where the priority is 1


def draw_scan(
    pixels: np.ndarray, priority_map: np.ndarray, fields: Fields, pixel_size_nm: float | None = None
) -> np.ndarray:
    """A picture uint8 `[H, W, 3]` of a preview uint8 `[H, W]`: priorities `[H, W]` as a veil of colour (cividis, which
    the colour-blind read too), fields as squares, numbered where they fit, and the path between them."""
    strength = STRENGTH * np.clip(priority_map, 0, 1)[..., None]
    colour = 255 * matplotlib.colormaps["cividis"](np.clip(priority_map, 0, 1))[..., :3]
    picture = Image.fromarray(np.rint((1 - strength) * pixels[..., None] + strength * colour).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    width = max(1, round(max(pixels.shape) / 500))
    middles = [(float(x), float(y)) for y, x in fields.centres]
    if len(middles) > 1:
        draw.line(middles, fill=BLUISH_GREEN, width=width)
    font = text_font(max(9, round(min(fields.side / 4, max(pixels.shape) / 60))))
    half = fields.side / 2
    for number, (x, y) in enumerate(middles, start=1):
        draw.rectangle((x - half, y - half, x + half, y + half), outline=ORANGE, width=width)
        draw.text(
            (x - half + width + 1, y - half + width),
            str(number),
            font=font,
            fill=ORANGE,
            stroke_width=2,
            stroke_fill=BLACK,
        )
    if pixel_size_nm is None:
        return np.asarray(picture)
    return draw_scale_bar(np.asarray(picture), pixel_size_nm)
