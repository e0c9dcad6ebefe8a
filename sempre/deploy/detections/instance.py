"""A particle as a detector gives it: a mask in its own box, somewhere in the micrograph."""

from dataclasses import dataclass

import numpy as np

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in px, exclusive ends


@dataclass(frozen=True)
class Instance:
    """A bool mask `[h, w]` with its first pixel at (x, y) of the micrograph, and its score.

    As `paste_masks` gives it, a detector's mask has a margin of one of its cells on each side.
    """

    x: int
    y: int
    mask: np.ndarray
    score: float

    @property
    def box(self) -> Box:
        return self.x, self.y, self.x + self.mask.shape[1], self.y + self.mask.shape[0]

    def window(self, box: Box) -> np.ndarray:
        """The part of the mask inside `box`, which must lie inside the instance's own."""
        x0, y0, x1, y1 = box
        return self.mask[y0 - self.y : y1 - self.y, x0 - self.x : x1 - self.x]


def intersection(a: Box, b: Box) -> Box:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def shared_pixels(a: Instance, b: Instance) -> int:
    """Pixels that both masks hold; their boxes must overlap."""
    box = intersection(a.box, b.box)
    return int(np.count_nonzero(a.window(box) & b.window(box)))


def union(pieces: list[Instance]) -> Instance:
    """One instance of all that the pieces hold, with the best of their scores."""
    if len(pieces) == 1:
        return pieces[0]
    boxes = np.array([piece.box for piece in pieces])
    (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    mask = np.zeros((y1 - y0, x1 - x0), dtype=bool)
    for piece in pieces:
        left, top, right, bottom = piece.box
        mask[top - y0 : bottom - y0, left - x0 : right - x0] |= piece.mask
    return Instance(x0, y0, mask, max(piece.score for piece in pieces))
