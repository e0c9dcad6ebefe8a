"""Instances in their three forms: label images, boxes, run lengths. Every function is one pass over the pixels."""

from collections.abc import Sequence

import numpy as np

from sempre.errors import InputError


def instance_boxes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids `[N]` and boxes `[N, 4]` (x0, y0, x1, y1 in px, exclusive ends) of a label image `[H, W]`, by rising id."""
    from scipy import ndimage  # slow to import, and only this needs it

    present, relabelled = np.unique(labels, return_inverse=True)
    first = int(np.searchsorted(present, 1))
    found = ndimage.find_objects(np.maximum(relabelled.reshape(labels.shape) - first + 1, 0))
    boxes = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in found]
    return present[first:].astype(np.int64), np.array(boxes, dtype=np.int64).reshape(-1, 4)


def encode_rle(mask: np.ndarray) -> dict:
    """COCO's uncompressed run lengths of a bool mask `[H, W]`: column by column, beginning with background."""
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat.size and flat[0] else counts}


def encode_rle_of_crop(mask: np.ndarray, y0: int, x0: int, shape: tuple[int, int]) -> dict:
    """`encode_rle` of a mask of `shape` that is false but for the bool crop `[h, w]` at (y0, x0), inside it.

    The cost is the crop's, which matters for thousands of small instances in a large micrograph.
    """
    height, width = shape
    framed = np.zeros((mask.shape[0] + 2, mask.shape[1]), dtype=np.int8)
    framed[1:-1] = mask
    edges = np.diff(framed, axis=0).T  # [w, h + 1]: 1 where a run begins, -1 behind its end
    column, row = np.nonzero(edges)
    places = (x0 + column) * height + y0 + row
    starts, ends = places[edges[column, row] > 0], places[edges[column, row] < 0]
    if not len(starts):
        return {"size": [height, width], "counts": [height * width]}
    separate = starts[1:] != ends[:-1]  # a run at the lower border may go on at the top of the next column
    starts, ends = starts[np.append(True, separate)], ends[np.append(separate, True)]
    changes = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(np.concatenate([[0], changes])).tolist()
    last = height * width - int(changes[-1])
    return {"size": [height, width], "counts": [*counts, last] if last else counts}


def decode_rle(rle: dict) -> np.ndarray:
    """The bool mask `[H, W]` of COCO's uncompressed run lengths.

    Raises:
        InputError: when the runs do not add up to the size.
    """
    height, width = rle["size"]
    counts = np.asarray(rle["counts"], dtype=np.int64)
    possible = counts.ndim == 1 and ((counts >= 0) & (counts <= height * width)).all()
    if not possible or counts.sum() != height * width:
        raise InputError(f"run lengths sum to {counts.sum()}, not to {height}x{width}: the file is damaged")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape((height, width), order="F")


def paint_instances(
    masks: Sequence[tuple[int, int, np.ndarray]], scores: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """A label image int32 `[H, W]` of overlapping instances: where they overlap the higher score lies on top.

    Args:
        masks: (y0, x0, bool crop) of each instance, inside the image.
        scores: `[N]`.

    Returns:
        Ids 1, 2, … in order of falling score; an instance wholly covered by others leaves no pixel and its id unused.
    """
    labels = np.zeros(shape, np.int32)
    order = np.argsort(-np.asarray(scores), kind="stable")
    for rank in range(len(order), 0, -1):
        y, x, mask = masks[order[rank - 1]]
        labels[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = rank
    return labels


def draw_ellipses(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A label image int32 `[H, W]` of the ellipses in `boxes` `[N, 4]` (x0, y0, x1, y1 in px): the smaller lies on top.

    Ids are positions in `boxes` plus one; a pixel belongs to an ellipse that covers its centre.
    """
    labels = np.zeros(shape, np.int32)
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    for index in np.argsort(-widths * heights, kind="stable"):
        x0, y0, x1, y1 = boxes[index]
        rows = np.arange(max(int(y0), 0), min(int(np.ceil(y1)), shape[0]))
        columns = np.arange(max(int(x0), 0), min(int(np.ceil(x1)), shape[1]))
        along = (rows + 0.5 - (y0 + y1) / 2) / (heights[index] / 2)
        across = (columns + 0.5 - (x0 + x1) / 2) / (widths[index] / 2)
        inside = along[:, None] ** 2 + across[None] ** 2 <= 1
        labels[rows[:, None], columns[None]] = np.where(inside, index + 1, labels[rows[:, None], columns[None]])
    return labels
