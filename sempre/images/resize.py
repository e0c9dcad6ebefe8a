"""Grey values at another scale."""

import numpy as np
from PIL import Image


def resize(pixels: np.ndarray, scale: float) -> np.ndarray:
    """float32 `[H, W]` at `scale` times its size, in whole px; bilinear, smoothed first when it gets smaller."""
    height, width = pixels.shape
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return pixels
    return np.array(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BILINEAR))


def boxes_between(boxes: np.ndarray, source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """Boxes `[N, 4]` (x0, y0, x1, y1) in px of an image of shape `source`, in px of the same image at `target`."""
    rows, columns = target[0] / source[0], target[1] / source[1]
    return boxes * np.array([columns, rows, columns, rows], dtype=boxes.dtype)
