"""Outlines as entries of COCO: polygons, boxes, ellipses and masks of one micrograph."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sempre.data.coco import portable_name
from sempre.errors import warn
from sempre.images.instances import encode_rle_of_crop

CORNERS = 96  # of the polygon that stands for an ellipse: its area is 0.07 % too small


def outline_entry(name: str, height: object = None, width: object = None) -> dict:
    """The entry of a micrograph without outlines; `height` and `width` in px as a file says them, None where not."""
    size = [int(side) if side else None for side in (height, width)]  # pyright: ignore[reportArgumentType]
    return {"file_name": portable_name(name), "height": size[0], "width": size[1], "segmentations": [], "boxes": []}


def add_outline(entry: dict, segmentation: list | dict) -> None:
    """Add polygons or run lengths as one instance of an entry."""
    entry["segmentations"].append(segmentation)
    entry["boxes"].append(None)


def say_skipped(path: Path, skipped: Sequence[str]) -> None:
    """Warn of the shapes of a file that outline no area."""
    if skipped:
        warn(f"{path} has {len(skipped)} shapes that outline no area, as {skipped[0]}: they are left out")


def warn_of_boxes(path: Path, entries: Iterable[dict]) -> None:
    """Say where all outlines are upright rectangles: of round particles these are boxes."""
    outlines = [outline for entry in entries for outline in entry["segmentations"]]
    if len(outlines) > 2 and all(isinstance(outline, list) and _is_rectangle(outline) for outline in outlines):
        warn(
            f"{path}: all {len(outlines)} outlines are rectangles: if they are boxes around round particles, outline"
            " these (data/boxes.py makes ellipses from YOLO's boxes)"
        )


def _is_rectangle(polygons: list) -> bool:
    if len(polygons) != 1 or len(polygons[0]) not in (8, 10):
        return False
    points = np.array(polygons[0], float).reshape(-1, 2)
    return (
        len(np.unique(points[:, 0])) == 2 and len(np.unique(points[:, 1])) == 2 and len(np.unique(points, axis=0)) == 4
    )


def polygon(points: Iterable[Sequence[float]]) -> list:
    """Corners (x, y in px) as one polygon of COCO."""
    return [[float(number) for x, y in points for number in (x, y)]]


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list:
    """An upright rectangle, px, as a polygon."""
    return polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def ellipse(x: float, y: float, radius_x: float, radius_y: float, turned: float = 0.0) -> list:
    """A polygon for an ellipse around (x, y) whose axes are turned by `turned` radians."""
    angles = np.linspace(0, 2 * math.pi, CORNERS, endpoint=False)
    along, across = radius_x * np.cos(angles), radius_y * np.sin(angles)
    cosine, sine = math.cos(turned), math.sin(turned)
    return polygon(zip(x + along * cosine - across * sine, y + along * sine + across * cosine, strict=True))


def placed_mask(mask: np.ndarray, x: int, y: int, height: int, width: int) -> dict:
    """Run lengths of a bool mask `[h, w]` whose upper left pixel lies at (x, y) of an image; what juts out is cut."""
    if x >= width or y >= height or x + mask.shape[1] <= 0 or y + mask.shape[0] <= 0:
        raise ValueError("a mask lies outside of its image")
    inside = mask[max(-y, 0) : height - y, max(-x, 0) : width - x]
    return encode_rle_of_crop(inside, max(y, 0), max(x, 0), (height, width))
