"""Where the defects of a rendered sample are."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Defects:
    """`kinds` of the D defects; the sites (y, x in px) that make them up, float64 `[N, 2]`, and whose each is `[N]`.

    What is small has one site, a crack one every few px along its course.
    """

    kinds: tuple[str, ...]
    sites: np.ndarray
    owner: np.ndarray

    @classmethod
    def of_points(cls, kinds: list[str], points: list) -> "Defects":
        """Defects of one site each."""
        return cls(tuple(kinds), np.array(points, np.float64).reshape(-1, 2), np.arange(len(kinds)))

    @property
    def weights(self) -> np.ndarray:
        """What each site counts `[N]`: a defect's sites together as much as another's, all together 1."""
        own = np.bincount(self.owner, minlength=len(self.kinds))
        return 1 / (own[self.owner] * len(self.kinds))


def scattered(count: int, size: tuple[int, int], margin: float, gap: float, random: np.random.Generator) -> np.ndarray:
    """Up to `count` points (y, x in px) `[N, 2]`, `margin` from the border and `gap` from each other where they fit."""
    points: list[np.ndarray] = []
    for _ in range(200 * count):
        if len(points) == count:
            break
        point = random.uniform(margin, np.array(size) - margin)
        if not points or np.hypot(*(np.array(points) - point).T).min() >= gap:
            points.append(point)
    return np.array(points).reshape(-1, 2)
