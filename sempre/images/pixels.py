"""The size of a pixel along x and y, which are not always the same."""

import math
from typing import Any, NamedTuple

from sempre.errors import InputError

SQUARE = 0.01  # sides of a pixel that differ by a smaller share are equal


class PixelSize(NamedTuple):
    """nm per px along x, the width of a pixel, and along y, its height."""

    x: float
    y: float

    @property
    def is_square(self) -> bool:
        """Whether the two differ by 1 % at most."""
        return abs(self.y - self.x) <= SQUARE * min(self.x, self.y)

    @property
    def mean(self) -> float:
        """The side in nm of a square of a pixel's area."""
        return self.x if self.is_square else math.sqrt(self.x * self.y)


def as_pixel_size(size: float | tuple[float, float] | None) -> PixelSize | None:
    """A pixel size given as one number of nm, or as a pair: x (width of a pixel) first, then y (its height).

    Sides that differ by 1 % at most are both the first.

    Raises:
        InputError: for numbers that are not above 0 and finite.
    """
    if size is None:
        return None
    sides: Any = size if hasattr(size, "__len__") else (size, size)
    if len(sides) != 2 or not all(0 < side < math.inf for side in sides):
        raise InputError(f"{size} is no pixel size: give nm per pixel, above 0, or a pair of them, x and y")
    both = PixelSize(float(sides[0]), float(sides[1]))
    return PixelSize(both.x, both.x) if both.is_square else both
