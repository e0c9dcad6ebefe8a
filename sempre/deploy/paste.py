"""Paste a detector's small masks into the micrograph, each inside its own box only."""

import numpy as np


def paste_masks(
    boxes: np.ndarray, masks: np.ndarray, shape: tuple[int, int], threshold: float = 0.5
) -> list[tuple[int, int, np.ndarray]]:
    """Resize each mask to its box and binarise it.

    The convention is torchvision's `paste_masks_in_image` (bilinear, half-pixel centres, a border of one zero cell
    around the mask and the box grown to match), but only the box is touched: the cost is the boxes' area, not
    N full images.

    Args:
        boxes: float `[N, 4]`, x0, y0, x1, y1 in px; parts outside the image are cut off.
        masks: float32 `[N, M, M]`, probabilities.
        shape: height and width of the micrograph in px.
        threshold: a pixel belongs to the instance from this probability on.

    Returns:
        For each box `(y0, x0, crop)`: `crop` is bool `[h, w]` and lies at `[y0:y0 + h, x0:x0 + w]` of the
        micrograph, always inside it; it is empty when the box lies outside.
    """
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    if len(boxes) != len(masks):
        raise ValueError(f"{len(boxes)} boxes but {len(masks)} masks")
    cells = masks.shape[-1] + 2
    padded = np.pad(np.asarray(masks, dtype=np.float32), ((0, 0), (1, 1), (1, 1)))
    half_sides = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5)
    half_sides = half_sides * np.float32(cells / (cells - 2))
    centres = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
    starts = (centres - half_sides).astype(np.int64)  # truncates towards zero, as torchvision does
    ends = (centres + half_sides).astype(np.int64) + 1

    pasted = []
    for mask, (x0, y0), (x1, y1) in zip(padded, starts.tolist(), ends.tolist(), strict=True):
        first_row, row_low, row_high, row_weight = _interpolation(y0, y1, shape[0], cells)
        first_column, column_low, column_high, column_weight = _interpolation(x0, x1, shape[1], cells)
        rows = mask[row_low] + row_weight[:, None] * (mask[row_high] - mask[row_low])
        low = rows.take(column_low, axis=1)
        high = rows.take(column_high, axis=1)
        high -= low
        high *= column_weight
        high += low
        pasted.append((first_row, first_column, high >= threshold))
    return pasted


def _interpolation(start: int, end: int, limit: int, cells: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """First pixel of [start, end) inside [0, limit), and each pixel's two cells and the weight of the second."""
    length = max(end - start, 1)
    first = min(max(start, 0), limit)
    last = max(first, min(start + length, limit))
    positions = np.arange(first - start, last - start, dtype=np.float32)
    positions = np.maximum((positions + np.float32(0.5)) * np.float32(cells / length) - np.float32(0.5), 0)
    low = np.minimum(positions.astype(np.intp), cells - 1)
    return first, low, np.minimum(low + 1, cells - 1), positions - low
