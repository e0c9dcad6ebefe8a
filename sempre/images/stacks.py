"""Pictures of files that are open: which there are, and the pixels of one. Nothing is read before it is asked for."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sempre.errors import InputError
from sempre.images.claims import check_packing, check_size
from sempre.images.pixel_size import PixelSize, nm_per_unit

LEAST_SIDE = 8  # px: what is narrower is a table, a spectrum or a list of points
SHORT = 3  # times shorter than the two axes before it: a last axis is then no width
NO_UNITS = ("", "px", "pixel", "pixels", "<undefined>", "none", "undefined")
FREQUENCY = re.compile(r"1\s*/|\^?\s*-\s*1|⁻¹|rad\b|deg|°")
LENGTH, PATTERN, OTHER = "length", "pattern", "other"  # what an axis runs over


@dataclass(frozen=True)
class Stack:
    """Pictures of one size in a file that is open.

    Attributes:
        array: their pixels, not read yet: of h5py, dask or numpy.
        axes: a letter for each axis of `array`: "y", "x", "c" for the samples of a colour, and "p" for any axis along
            which one picture follows another.
        pixel_size: None where the file is silent.
        unpack: what makes the levels `[H, W]` or `[H, W, C]` of a picture as it is stored.
        packed: pixels that one stored value holds.
    """

    array: Any
    axes: str
    pixel_size: PixelSize | None = None
    unpack: Callable[[np.ndarray], np.ndarray] | None = None
    metadata: dict = field(default_factory=dict)
    packed: int = 1

    @property
    def pages(self) -> int:
        return math.prod(size for size, axis in zip(self.array.shape, self.axes, strict=True) if axis == "p")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in px."""
        height, width = (int(self.array.shape[self.axes.index(axis)]) for axis in "yx")
        return height, width * self.packed

    @property
    def page_bytes(self) -> int:
        sizes = (int(size) for size, axis in zip(self.array.shape, self.axes, strict=True) if axis != "p")
        return math.prod(sizes) * self.array.dtype.itemsize

    def read(self, page: int) -> np.ndarray:
        """`[H, W]` or `[H, W, C]` of one page, counted from 0."""
        lengths = [size for size, axis in zip(self.array.shape, self.axes, strict=True) if axis == "p"]
        position = iter(np.unravel_index(page, lengths) if lengths else ())
        at = tuple(int(next(position)) if axis == "p" else slice(None) for axis in self.axes)
        left = [axis for axis in self.axes if axis != "p"]
        stored = np.asarray(self.array[at]).transpose([left.index(axis) for axis in "yxc" if axis in left])
        return self.unpack(stored) if self.unpack else stored


def kind_of_unit(unit: str) -> str:
    """What an axis runs over by its unit: LENGTH, which nothing said counts as, PATTERN or OTHER."""
    if unit.strip().lower() in NO_UNITS or nm_per_unit(unit) is not None:
        return LENGTH
    return PATTERN if FREQUENCY.search(unit) else OTHER


def without_patterns(stacks: Sequence[Stack]) -> list[Stack]:
    """Stacks of which the size of pixels is known first; those of diffraction patterns only if there are no others."""
    images = [stack for stack in stacks if not stack.metadata.get("pattern")] or list(stacks)
    return sorted(images, key=lambda stack: (stack.pixel_size is None, bool(stack.metadata.get("map"))))


def find_page(path: Path, stacks: Sequence[Stack], page: int, max_pixels: int) -> tuple[Stack, int]:
    """The stack that holds a page, counted from 0 through all of them, and the page's number in it.

    Raises:
        InputError: for a page that is too large, or far larger than can be packed into the file.
    """
    for stack in stacks:
        if page < stack.pages:
            check_size(path, stack.shape, max_pixels)
            check_packing(path, stack.page_bytes)
            return stack, page
        page -= stack.pages
    raise InputError(f"{path} holds no picture")


def as_stack_order(shape: Sequence[int]) -> str | None:
    """The axes of an array of which only the shape is known; None where it holds no picture.

    The last two axes are y and x. A last axis that is far shorter than the two before it holds samples: 3 or 4 are a
    colour, of others each is a picture.
    """
    long = [axis for axis, size in enumerate(shape) if size > 1]
    axes = ["p"] * len(shape)
    if len(long) >= 3:
        height, width, last = (shape[axis] for axis in long[-3:])
        if (last < LEAST_SIDE or SHORT * last <= min(height, width)) and min(height, width) >= LEAST_SIDE:
            y, x, samples = long[-3:]
            axes[y], axes[x], axes[samples] = "y", "x", "c" if last in (3, 4) else "p"
            return "".join(axes)
    if len(long) < 2 or min(shape[axis] for axis in long[-2:]) < LEAST_SIDE:
        return None
    axes[long[-2]], axes[long[-1]] = "y", "x"
    return "".join(axes)
