"""Act, first: above which priority a place is worth the beam, and the blobs that are left."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from sempre.errors import InputError

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
