"""The pixel size of a micrograph by the scale bar that is burnt into it."""

from dataclasses import dataclass

import numpy as np

from sempre.images.normalise import percentile_normalise_to_uint8
from sempre.images.scale_bar.choose import find_bar
from sempre.images.scale_bar.text import NM, Reader

SMALLEST = 128  # px of a side: less has no room for a bar and its writing, and reading costs half a second at any size
SAME = 0.02  # pixel sizes within this share of each other agree


@dataclass(frozen=True)
class ScaleBar:
    """A bar of `length_px` px that stands for `length_nm` nm."""

    length_px: float
    length_nm: float

    @property
    def pixel_size_nm(self) -> float:
        """nm per px."""
        return self.length_nm / self.length_px


def read_scale_bar(pixels: np.ndarray, reader: Reader) -> ScaleBar | None:
    """The scale bar of a micrograph; None where it is small, has none, or where anything about it is in doubt.

    Args:
        pixels: `[H, W]`, any real type.
        reader: of the writing.
    """
    if min(pixels.shape) < SMALLEST:
        return None
    grey = pixels if pixels.dtype == np.uint8 else percentile_normalise_to_uint8(pixels, 0, 100)
    bars = []
    for box, length_nm in reader.lengths(grey):
        line = find_bar(grey, box)
        if line is not None:
            bars.append(ScaleBar(line.length, length_nm))
    if len({bar.length_nm >= NM["mm"] for bar in bars}) > 1:
        bars = [bar for bar in bars if bar.length_nm < NM["mm"]]  # a working distance stands in mm beside the bar's
    sizes = [bar.pixel_size_nm for bar in bars]
    if not bars or max(sizes) > (1 + SAME) * min(sizes):
        return None
    return bars[0]
