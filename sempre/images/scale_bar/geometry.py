"""Boxes and runs of pixels, which the parts of a scale bar are made of."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Box:
    """The pixels `[y0:y1, x0:x1]`."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """px."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """px."""
        return self.y1 - self.y0


def gap(low: float, high: float, other_low: float, other_high: float) -> float:
    """The distance between two intervals, negative by as much as they overlap."""
    return max(low, other_low) - min(high, other_high)


def runs(mask: np.ndarray, shortest: int) -> np.ndarray:
    """`[K, 3]` of row, start and end (exclusive) of every run of True along the rows of bool `[H, W]`, from `shortest`
    px on, row by row."""
    edges = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    long = ends - starts >= shortest
    return np.stack([rows[long], starts[long], ends[long]], axis=1)
