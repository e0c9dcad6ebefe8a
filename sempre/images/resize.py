"""Grey values at another scale."""

import numpy as np
from PIL import Image


def resize(pixels: np.ndarray, scale: float) -> np.ndarray:
    """float32 `[H, W]` at `scale` times its size, in whole px, as `resize_to` does it."""
    height, width = pixels.shape
    return resize_to(pixels, (max(1, round(height * scale)), max(1, round(width * scale))))


def resize_to(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """float32 or uint8 `[H, W]`, or uint8 `[H, W, 3]`, as `shape` px; bilinear, smoothed first when it gets smaller."""
    if pixels.shape[:2] == tuple(shape):
        return pixels
    size = shape[1], shape[0]
    return np.array(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BILINEAR))


def resize_rows(pixels: np.ndarray, shape: tuple[int, int], rows: slice) -> np.ndarray:
    """The rows `rows` of what `resize_to` makes of float32 `[H, W]`, `[stop - start, shape[1]]`."""
    down = pixels.shape[0] / shape[0]
    margin = 2 + int(2 * down)  # source rows beyond those asked for that weigh on them
    first = max(int(rows.start * down) - margin, 0)
    part = pixels[first : int(rows.stop * down) + 1 + margin]
    box = 0, rows.start * down - first, pixels.shape[1], rows.stop * down - first
    size = shape[1], rows.stop - rows.start
    image = Image.fromarray(np.ascontiguousarray(part))
    return np.array(image.resize(size, Image.Resampling.BILINEAR, box=box))


def pick_at_centres(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Each px of an image of `shape` with the value `[h, w]` at its centre: for labels, which have no mean."""
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(values.shape, shape, strict=True))
    return values[rows[:, None], columns]


def boxes_between(boxes: np.ndarray, source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """Boxes `[N, 4]` (x0, y0, x1, y1) in px of an image of shape `source`, in px of the same image at `target`."""
    rows, columns = target[0] / source[0], target[1] / source[1]
    return boxes * np.array([columns, rows, columns, rows], dtype=boxes.dtype)
