"""A detector that reads the answer, a label image, where a real one reads grey values."""

import numpy as np
from PIL import Image
from scipy import ndimage

from sempre.segmentation.tiling import Detections

CELLS = 28  # of a mask's side


def perfect_detector(view, reduction=1):
    """Detects the labels that the view itself shows: each visible part is one instance, cut where the view ends.

    Pasting grows a box by a ring of empty cells; here the ring lies around the visible part, or outside the view.
    """
    tile = view[reduction // 2 :: reduction, reduction // 2 :: reduction]
    boxes, masks = [], []
    limits = np.array(tile.shape)
    for value, found in enumerate(ndimage.find_objects(tile), start=1):
        if found is None:
            continue
        start, end = (np.array([getattr(part, name) for part in found]) for name in ("start", "stop"))
        ring = -(-(end - start) // CELLS) + 1
        crop = np.zeros(end - start + 2 * ring, np.float32)
        inner = tuple(slice(width, -width) for width in ring)
        crop[inner] = tile[start[0] : end[0], start[1] : end[1]] == value
        for axis, width in enumerate(ring):
            along = np.moveaxis(crop, axis, 0)
            if start[axis] == 0:
                along[:width] = along[width]
            if end[axis] == limits[axis]:
                along[-width:] = along[-width - 1]
        resized = np.asarray(Image.fromarray(crop).resize((CELLS + 2, CELLS + 2), Image.Resampling.BILINEAR))
        centre = (start + end) / 2
        half = ((end - start) / 2 + ring - 0.01) * CELLS / (CELLS + 2)
        boxes.append([*(centre - half)[::-1], *(centre + half)[::-1]])
        masks.append(resized[1:-1, 1:-1])
    scores = np.linspace(0.99, 0.6, len(boxes), dtype=np.float32)
    boxes = np.array(boxes, np.float32).reshape(-1, 4) * reduction
    return Detections(boxes, scores, np.array(masks, np.float32).reshape(-1, CELLS, CELLS))


class LabelSession:
    """In place of onnxruntime's session: `perfect_detector` on an image of labels, with the `cap` best of its finds."""

    def __init__(self, cap):
        self.cap, self.calls = cap, 0

    def run(self, names, inputs):
        self.calls += 1
        grey = inputs["image"][0, 0]
        labels = np.rint(grey).astype(np.int32)
        labels[np.abs(grey - labels) > 0.01] = 0  # blends of two labels, where the view is reduced
        found = perfect_detector(labels)
        best = np.random.default_rng(len(found.scores)).permutation(len(found.scores))[: self.cap]
        return [found.boxes[best], np.sort(found.scores)[::-1][: self.cap], found.masks[best]]
