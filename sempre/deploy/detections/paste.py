"""Paste a detector's small masks into the micrograph, each inside its own box only."""

import numpy as np


def paste_masks(
    boxes: np.ndarray, masks: np.ndarray, shape: tuple[int, int], threshold: float = 0.5
) -> list[tuple[int, int, np.ndarray]]:
    """Resize each mask to its box and binarise it.

    A pixel takes the mask's value at its centre, bilinear, zero outside the box: the inverse of the RoIAlign that makes
    the training targets, as in Detectron2's `paste_masks_in_image`. (torchvision's function of that name rounds boxes
    to whole pixels and makes every particle about one pixel too wide.) Only the box is touched: the cost is the boxes'
    area, not N full images.

    Args:
        boxes: float `[N, 4]`, x0, y0, x1, y1 in px; parts outside the image are cut off.
        masks: float32 `[N, M, M]`, probabilities.
        shape: height and width of the micrograph in px.
        threshold: a pixel belongs to the instance from this probability on.

    Returns:
        For each box `(y0, x0, crop)`: `crop` is bool `[h, w]` and lies at `[y0:y0 + h, x0:x0 + w]` of the
        micrograph, always inside it; it is empty when the box holds no pixel's centre.
    """
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    if len(boxes) != len(masks):
        raise ValueError(f"{len(boxes)} boxes but {len(masks)} masks")
    cells = masks.shape[-1]
    padded = np.pad(np.asarray(masks, dtype=np.float32), ((0, 0), (1, 1), (1, 1)))
    pasted = []
    for mask, (x0, y0, x1, y1) in zip(padded, boxes.tolist(), strict=True):
        first_row, row, row_weight = _interpolation(y0, y1, shape[0], cells)
        first_column, column, column_weight = _interpolation(x0, x1, shape[1], cells)
        rows = mask[row] + row_weight[:, None] * (mask[row + 1] - mask[row])
        low = rows.take(column, axis=1)
        high = rows.take(column + 1, axis=1)
        high -= low
        high *= column_weight
        high += low
        pasted.append((first_row, first_column, high >= threshold))
    return pasted


def _interpolation(start: float, end: float, limit: int, cells: int) -> tuple[int, np.ndarray, np.ndarray]:
    """The first pixel with its centre in [start, end) and the image; each one's padded cell, the next cell's weight."""
    first = min(max(int(np.ceil(start - 0.5)), 0), limit)
    last = max(first, min(int(np.ceil(end - 0.5)), limit))
    centres = np.arange(first, last, dtype=np.float32) + np.float32(0.5)
    # Cell k of the mask has its centre at k + 0.5; one cell of padding lies before it.
    positions = (centres - np.float32(start)) * np.float32(cells / max(end - start, 1e-6)) + np.float32(0.5)
    cell = np.minimum(np.maximum(positions.astype(np.intp), 0), cells)  # np.clip takes four times as long for so few
    return first, cell, positions - cell
