"""Fields of view that cover what has priority."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from sempre.errors import InputError
from sempre.scan.patches import Patches

RULES = ("otsu", "quantile", "none")


def level(priority: np.ndarray, rule: str = "otsu", quantile: float = 0.95) -> float:
    """The priority that places must exceed, of all priorities (any shape).

    `otsu` separates them in two (Otsu, 1979), `quantile` takes the highest 1 - `quantile` of them, `none` all above 0,
    where a budget of area or time alone decides.

    Raises:
        InputError: for another rule, or a quantile outside 0 to 1.
    """
    if rule not in RULES:
        raise InputError(f"threshold={rule} is unknown: choose {', '.join(RULES)}")
    if not 0 <= quantile < 1:
        raise InputError(f"quantile={quantile} is none: take a number from 0 to below 1")
    if rule == "none" or priority.min() == priority.max():
        return 0.0
    return float(threshold_otsu(priority)) if rule == "otsu" else float(np.quantile(priority, quantile))


@dataclass(frozen=True)
class Blob:
    """A connected area of high priority: `centroid` (y, x in px), `area` in px, `priority` its mean."""

    id: int
    centroid: tuple[float, float]
    area: int
    priority: float

    @property
    def diameter(self) -> float:
        """Of the disc of its area, px."""
        return float(np.sqrt(4 * self.area / np.pi))


def blobs_of(priority_map: np.ndarray, least: float, gap: int = 0, smallest: int = 1) -> tuple[np.ndarray, list[Blob]]:
    """Labels int32 `[H, W]` and blobs, by falling mean priority, of the px of a map `[H, W]` above `least`.

    Areas `gap` px or less apart are one blob; those below `smallest` px are none.
    """
    mask = priority_map > least
    near = ndimage.distance_transform_edt(~mask) <= gap / 2 if gap and mask.any() else mask
    labels, count = ndimage.label(near, np.ones((3, 3)))
    labels = np.where(mask, labels, 0).astype(np.int32)
    if not count:
        return labels, []
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    means = np.bincount(labels.ravel(), priority_map.ravel(), count + 1)[1:] / np.maximum(areas, 1)
    order = [number for number in np.argsort(-means, kind="stable") if areas[number] >= smallest]
    renamed = np.zeros(count + 1, np.int32)
    renamed[np.array(order, int) + 1] = np.arange(1, len(order) + 1)
    centroids = ndimage.center_of_mass(mask, labels, np.array(order, int) + 1) if order else []
    blobs = [
        Blob(rank, (float(y), float(x)), int(areas[number]), float(means[number]))
        for rank, (number, (y, x)) in enumerate(zip(order, centroids, strict=True), start=1)
    ]
    return renamed[labels], blobs


@dataclass(frozen=True)
class Fields:
    """Square fields of view of `side` px: their middles (y, x in px) float64 `[N, 2]`, and their priority `[N]`."""

    centres: np.ndarray
    priority: np.ndarray
    side: float

    def __len__(self) -> int:
        return len(self.centres)

    def __getitem__(self, chosen: np.ndarray) -> "Fields":
        """Those at the positions `chosen`, in this order."""
        return Fields(self.centres[chosen], self.priority[chosen], self.side)

    def windows(self, shape: tuple[int, int]) -> list[tuple[slice, slice]]:
        """Of each field the px of a preview of `shape` (H, W) that it covers."""
        corners = np.rint(self.centres - self.side / 2).astype(int)
        side = max(1, round(self.side))
        return [
            (slice(max(y, 0), min(y + side, shape[0])), slice(max(x, 0), min(x + side, shape[1]))) for y, x in corners
        ]

    def contain(self, points: np.ndarray) -> np.ndarray:
        """Whether each field shows each of the points (y, x in px) `[P, 2]`: bool `[N, P]`."""
        return np.all(np.abs(self.centres[:, None] - points[None]) <= self.side / 2, axis=-1)


NOWHERE = np.zeros((0, 2))


def check_side(side: float, shape: tuple[int, int]) -> None:
    """Raises: InputError for a field of view that is no part of a preview of `shape` (H, W)."""
    if not 4 <= side <= min(shape):
        raise InputError(
            f"a field of view of {side:.3g} px is no part of a preview of {shape[1]}x{shape[0]} px: "
            "give another field_um="
        )


def cover(
    patches: Patches,
    priority: np.ndarray,
    side: float,
    overlap: float = 0.1,
    least: float = 0.0,
    area: float = 1.0,
    visited: np.ndarray = NOWHERE,
    skipped: np.ndarray = NOWHERE,
) -> Fields:
    """Fields that show every patch whose priority `[rows * columns]` exceeds `least`, the most urgent first.

    Each is laid around the patch of highest priority that no field shows yet, where it takes in most of what else has
    priority nearby. So blobs smaller than a field get one, near ones share one, and larger ones are tiled.

    Args:
        side: of the fields of view, px.
        overlap: share of the side that a patch must lie within the field's border to count as shown, 0 to 0.4.
        area: share of the preview's area that the fields may take together, the last one rounded down.
        visited: middles (y, x in px) `[V, 2]` of fields that have been scanned: what they show is not shown again, and
            what they cover is a part of `area`.
        skipped: middles `[S, 2]` of fields that could not be scanned, and are not tried again.

    Raises:
        InputError: for a side larger than the preview, or an overlap or area out of range.
    """
    shape = patches.grid.height, patches.grid.width
    check_side(side, shape)
    if not 0 <= overlap <= 0.4 or not 0 <= area <= 1:
        raise InputError(f"overlap={overlap} or area={area} is out of range: take 0 to 0.4, and a share up to 1")
    # Where a field may lie: centred on a patch, or as near to it as the border lets it.
    middles = np.clip(patches.centres, side / 2, np.array(shape) - side / 2)
    # How far from a field's middle it shows a patch, down and across; farther where the border keeps the middle away.
    reach = np.maximum(side * (0.5 - overlap), np.abs(patches.centres - middles))
    window = 2 * int(side * (0.5 - overlap) // patches.grid.cell) + 1
    left = np.where(priority > least, priority, 0).astype(np.float64)
    covered = np.zeros(shape, bool)
    for here in Fields(visited, np.zeros(len(visited)), side).windows(shape):
        covered[here] = True

    def cross_out(middle: np.ndarray) -> None:
        left[np.all(np.abs(patches.centres - middle) <= reach, axis=1)] = 0

    for middle in (*visited, *skipped):
        cross_out(middle)
    chosen: list[int] = []
    urgency: list[float] = []
    while (peak := int(left.argmax())) >= 0 and left[peak] > 0:
        mass = ndimage.uniform_filter(left.reshape(patches.shape) ** 2, window, mode="constant").ravel()
        distance = np.abs(middles - patches.centres[peak])
        around = np.flatnonzero(np.all(distance <= reach[peak], axis=1))
        best = int(around[np.lexsort((distance[around].max(axis=1), -np.round(mass[around], 12)))[0]])
        (here,) = Fields(middles[[best]], left[[peak]], side).windows(shape)
        if (covered[here].size - covered[here].sum() + covered.sum()) / covered.size > area:
            break
        covered[here] = True
        chosen.append(best)
        urgency.append(left[peak])
        cross_out(middles[best])
    return Fields(middles[chosen].reshape(-1, 2), np.array(urgency), side)


def tiling(shape: tuple[int, int], side: float, overlap: float = 0.1) -> tuple[Fields, int]:
    """The fields of `side` px that cover a preview of `shape` row by row, evenly spread, and how many make a row.

    Raises:
        InputError: for a side larger than the preview.
    """
    check_side(side, shape)
    rows, columns = (
        np.linspace(side / 2, length - side / 2, int(np.ceil((length - side) / (side * (1 - overlap)))) + 1)
        for length in shape
    )
    centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    return Fields(centres, np.zeros(len(centres)), side), len(columns)
