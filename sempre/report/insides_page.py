"""What goes on inside networks: feature maps of their stages, and where they look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from sempre.data.labelled import LabelledMicrograph
from sempre.frozen.insides import ChannelFigures
from sempre.images import to_uint8
from sempre.report.figures import LETTERS, WIDE
from sempre.report.html import heading, paragraph, picture, table, write_page
from sempre.report.judged_overlay import draw_judged_overlay, draw_labels_overlay

# Of each class activation map: the figure's name, which is the summary's too, and what it is called.
MAPS = {"grad": "activation_maps", "ablation": "ablation_maps"}
CALLED = {"grad": "Grad-CAM", "ablation": "Ablation-CAM"}
GRID = 4  # maps a side of a stage's square
GAP = 0.06  # of a map, between two
SPREAD = 3.0  # standard deviations from a map's mean to black and to white
FAINTEST = 0.01, 0.05  # of the stage's largest deviation and of the map's own mean: no map is stretched beyond these
LEGEND = 0.22  # inches under each row of pictures, for their captions
# Of the table, and digits behind the point.
COLUMNS = (("channels", 0), ("dead", 1), ("saturated", 1), ("mean_cosine_distance", 3))
HEAT = "inferno"  # its lightness rises throughout, so it reads in grey and without colour vision


@dataclass(frozen=True)
class StageMaps:
    """Of one stage on one micrograph: the drawn channels' maps float32 `[N, h, w]`, the deviation of the strongest of
    all channels, and the figures of all channels."""

    maps: np.ndarray
    largest_deviation: float
    figures: ChannelFigures


@dataclass(frozen=True)
class Look:
    """What an arm finds in a micrograph, a label image `[H, W]`, and its activation map float32 `[H, W]`, 0 to 1."""

    predicted: np.ndarray
    activation: np.ndarray
    on_particles: float


def draw_feature_maps(pixels: Mapping[str, np.ndarray], stages: Mapping[str, Sequence[StageMaps]]) -> Figure:
    """A row for each micrograph, uint8 `[H, W]` by its name: the micrograph, then sixteen maps of each stage.

    Each map is grey at its mean. A dead or saturated one stays grey throughout, for none is stretched beyond what those
    two words mean (`sempre.pretraining.collapse`).
    """
    columns = 1 + len(next(iter(stages.values())))
    width = WIDE / columns
    heights = [width * image.shape[0] / image.shape[1] + 2 * LEGEND for image in pixels.values()]
    figure = Figure(figsize=(WIDE, sum(heights)), layout=_narrow_gaps())
    grid = figure.subplots(len(pixels), columns, squeeze=False, height_ratios=heights)
    for row, (name, image) in zip(grid, pixels.items(), strict=True):
        _show(row[0], image, name, "gray")
        for number, (axes, stage) in enumerate(zip(row[1:], stages[name], strict=True), 1):
            found = stage.figures
            caption = (
                f"stage {number}: {found.channels} channels,\n{found.dead} dead, {found.saturated} saturated,\n"
                f"distance {found.mean_cosine_distance:.2f}"
            )
            _show(
                axes, montage([_as_grey(channel, stage.largest_deviation) for channel in stage.maps]), caption, "gray"
            )
    return figure


def draw_activation_maps(
    micrographs: Mapping[str, LabelledMicrograph], looks: Mapping[str, Mapping[str, Look]]
) -> Figure:
    """For each micrograph two rows: its labels and what each arm found; itself and where each arm looks.

    `looks` are by arm and micrograph.
    """
    columns = 1 + len(looks)
    width = min(WIDE / columns, WIDE / 3)
    heights = []
    for micrograph in micrographs.values():
        height = width * micrograph.pixels.shape[0] / micrograph.pixels.shape[1]
        heights += [height * 1.08 + LEGEND, height + LEGEND]
    figure = Figure(figsize=(width * columns, sum(heights) + 0.4), layout=_narrow_gaps())
    grid = figure.subplots(2 * len(micrographs), columns, squeeze=False, height_ratios=heights)
    for index, (name, micrograph) in enumerate(micrographs.items()):
        upper, lower = grid[2 * index], grid[2 * index + 1]
        _show(upper[0], draw_labels_overlay(micrograph), f"{name}: labels")
        _show(lower[0], micrograph.pixels, "micrograph", "gray")
        for above, below, (arm, by_micrograph) in zip(upper[1:], lower[1:], looks.items(), strict=True):
            look = by_micrograph[name]
            _show(above, draw_judged_overlay(micrograph, look.predicted), arm)
            share = "looks nowhere" if np.isnan(look.on_particles) else f"{look.on_particles:.0%} on particles"
            _show(below, draw_activation(micrograph.pixels, look.activation), share)
    bar = figure.colorbar(ScalarMappable(cmap=HEAT), ax=grid, location="bottom", aspect=60, fraction=0.02, pad=0.01)
    bar.set_label("class activation, share of the map's largest", fontsize=LETTERS)
    bar.ax.tick_params(labelsize=LETTERS - 1)
    return figure


def draw_activation(pixels: np.ndarray, activation: np.ndarray) -> np.ndarray:
    """A picture uint8 `[H, W, 3]` of an activation map `[H, W]`, 0 to 1, over a micrograph uint8 `[H, W]`."""
    colours = matplotlib.colormaps[HEAT](activation)[..., :3]
    return to_uint8(0.7 * colours + 0.3 * pixels[..., None] / 255)


def montage(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Up to sixteen pictures `[h, w]`, 0 to 1, as a square of four by four on white."""
    height, width = maps[0].shape
    # Coarse maps are enlarged first: a gap of one of their px would be as wide as a quarter of the map.
    factor = max(1, round(64 / max(height, width)))
    gap = max(1, round(GAP * factor * max(height, width)))
    step = factor * height + gap, factor * width + gap
    canvas = np.ones((GRID * step[0] - gap, GRID * step[1] - gap), np.float32)
    for number, one in enumerate(maps):
        y, x = number // GRID * step[0], number % GRID * step[1]
        canvas[y : y + factor * height, x : x + factor * width] = one.repeat(factor, 0).repeat(factor, 1)
    return canvas


def write_insides_report(folder: Path, about: str, summary: Mapping) -> None:
    """Write `folder/report.html` of the figures and the tables beside it."""
    write_page(
        folder / "report.html", "sempre: inside the networks", [paragraph(about), *insides_parts(folder, summary)]
    )


def insides_parts(folder: Path, summary: Mapping) -> list[str]:
    """The parts of a page that show `folder`, what evaluate/insides.py left there with this `summary`."""
    rows = [
        (f"{arm}, stage {number}", *(f"{figures[name]:.{places}f}" for name, places in COLUMNS))
        for arm, by_stage in summary["feature_maps"].items()
        for number, figures in enumerate(by_stage, 1)
    ]
    parts = [
        heading("Channels"),
        table(("arm and stage", "channels", "dead", "saturated", "mean cosine distance"), rows),
        paragraph(
            "Behind the global response normalisation of each stage's last block, means over the micrographs. Dead: "
            "the deviation over the map is at most a hundredth of the stage's largest. Saturated: not dead, and the "
            "deviation is at most a twentieth of the mean's magnitude. Distance: (1 - cosine) / 2, the mean over "
            "pairs of channels; 0 is all the same, 0.5 is unrelated."
        ),
    ]
    for cam, name in MAPS.items():
        if not summary.get(name):
            continue
        parts += [
            heading(f"Where they look, by {CALLED[cam]}"),
            picture(folder / f"{name}.png", f"Found, missed and false; and {CALLED[cam]} on the backbone"),
            table(
                ("arm", "AJI+", "activation on particles", "their share of the area"),
                [
                    (arm, *(_number(means[name]) for name in ("aji_plus", "on_particles", "area_share")))
                    for arm, means in summary[name].items()
                ],
            ),
        ]
    return [
        *parts,
        heading("Feature maps"),
        *[picture(folder / f"feature_maps_{arm}.png", arm) for arm in summary["feature_maps"]],
    ]


def _as_grey(channel: np.ndarray, largest_deviation: float) -> np.ndarray:
    mean = channel.mean()
    reach = SPREAD * max(channel.std(), FAINTEST[0] * largest_deviation, FAINTEST[1] * abs(mean), 1e-12)
    return np.clip(0.5 + (channel - mean) / (2 * reach), 0, 1)


def _narrow_gaps() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)


def _show(axes: Axes, image: np.ndarray, caption: str, cmap: str | None = None) -> None:
    low, high = (0, 255 if image.dtype == np.uint8 else 1) if cmap else (None, None)
    axes.imshow(image, cmap=cmap, interpolation="none", vmin=low, vmax=high)
    axes.set_xlabel(caption, fontsize=LETTERS - 1, labelpad=2)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _number(value: float | None) -> str:
    """A mean as it is shown; a dash for one of nothing, such as the activation of a network that looks nowhere."""
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"
