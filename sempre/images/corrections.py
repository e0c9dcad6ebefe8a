"""Corrections by hand of a label image: delete a particle, merge two, split one by a line, add one, undo.

Every edit is a function of a label image `[H, W]`, 0 is background, that returns a new label image and leaves the one
that it was given as it is. Points are (y, x) in px; the first pixel's centre is (0.5, 0.5), as in the tables of
particles. A particle keeps its id through an edit where that is possible.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy import ndimage

from sempre.errors import InputError

Point = tuple[float, float]  # y, x in px
GAP = 3.0  # px: the gap between two particles that is filled when they are merged
LEAST_PIECE = 12  # px²: a smaller piece that a line cuts off stays with the rest of its particle
MOST_UNDONE = 200  # edits that can be undone
EIGHT = np.ones((3, 3), bool)  # pixels that touch at a corner are connected


def particle_at(labels: np.ndarray, point: Point) -> int:
    """The id of the particle at `point`.

    Raises:
        InputError: when there is none, or the point is not on the micrograph.
    """
    y, x = (int(np.floor(value)) for value in point)
    if not (0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]):
        raise InputError(f"the point x={point[1]:g}, y={point[0]:g} is not on the micrograph: choose one inside it")
    if not labels[y, x]:
        raise InputError(f"there is no particle at x={point[1]:g}, y={point[0]:g}: click inside its outline")
    return int(labels[y, x])


def delete(labels: np.ndarray, point: Point) -> np.ndarray:
    """Delete the particle at `point`. Raises: InputError where there is none."""
    return np.where(labels == particle_at(labels, point), 0, labels).astype(labels.dtype)


def merge(labels: np.ndarray, first: Point, second: Point) -> np.ndarray:
    """Merge the particle at `second` into the particle at `first`, which keeps its id.

    Background between the two is filled where the gap is at most `GAP` px wide. Where they lie farther apart they
    become one particle of two pieces, as a particle that another one hides in the middle.

    Raises:
        InputError: when one of the points is on no particle, or both are on the same.
    """
    kept, gone = particle_at(labels, first), particle_at(labels, second)
    if kept == gone:
        raise InputError("both points are on the same particle: click two different ones")
    merged = np.where(labels == gone, kept, labels).astype(labels.dtype)
    rows, columns = _box((labels == kept) | (labels == gone), int(np.ceil(GAP)))
    here = labels[rows, columns]
    # Distances are from centre to centre, so across a gap of n px they sum to n + 1. The closing leaves out what lies
    # beside the gap.
    apart = [ndimage.distance_transform_edt(here != number) for number in (kept, gone)]
    both = np.pad((here == kept) | (here == gone), 4)
    closed = ndimage.binary_closing(both, np.ones((5, 5), bool))[4:-4, 4:-4]
    merged[rows, columns][closed & (here == 0) & (apart[0] + apart[1] <= GAP + 1)] = kept
    return merged


def split(labels: np.ndarray, line: Sequence[Point]) -> np.ndarray:
    """Split every particle that the polyline `line` cuts through.

    The largest piece keeps the particle's id, the others get new ids. The pixels under the line go to the nearest
    piece, so no area is lost. A piece of fewer than `LEAST_PIECE` px² is not cut off.

    Raises:
        InputError: when the line cuts through no particle.
    """
    under = line_pixels(line, labels.shape)
    result = labels.copy()
    number = int(labels.max())
    for crossed in np.unique(labels[under]):
        if crossed == 0:
            continue
        rows, columns = _box(labels == crossed, 0)
        mask = labels[rows, columns] == crossed
        cut = mask & under[rows, columns]
        whole, _ = ndimage.label(mask, EIGHT)
        rest, _ = ndimage.label(mask & ~cut, EIGHT)
        for connected in np.unique(whole[cut]):
            inside = whole == connected
            ids, areas = np.unique(rest[inside & (rest > 0)], return_counts=True)
            ids = ids[areas >= LEAST_PIECE]
            if len(ids) < 2:
                continue
            pieces = np.where(inside & np.isin(rest, ids), rest, 0)
            nearest = ndimage.distance_transform_edt(pieces == 0, return_distances=False, return_indices=True)
            owner = np.where(inside, pieces[tuple(nearest)], 0)
            areas = [np.count_nonzero(owner == piece) for piece in ids]
            for piece in ids[np.argsort(areas, kind="stable")][:-1]:
                number += 1
                result[rows, columns][owner == piece] = number
    if number == int(labels.max()):
        raise InputError("the line cuts through no particle: begin and end it outside of the particle")
    return result


def add_polygon(labels: np.ndarray, outline: Sequence[Point]) -> np.ndarray:
    """Add the particle whose outline is the polygon `outline`, which closes itself. Particles that are there stay on
    top: the new one gets the background inside.

    Raises:
        InputError: for fewer than three corners, and where no background is inside.
    """
    if len(outline) < 3:
        raise InputError(f"an outline of {len(outline)} corners encloses nothing: give three or more")
    from skimage.draw import polygon

    corners = np.asarray(outline, np.float64) - 0.5  # of pixel centres at whole numbers
    y, x = polygon(corners[:, 0], corners[:, 1], labels.shape)
    inside = np.zeros(labels.shape, bool)
    inside[y, x] = True
    return _add(labels, inside)


def brush(labels: np.ndarray, stroke: Sequence[Point], width: float) -> np.ndarray:
    """Paint with a round brush of `width` px along the polyline `stroke`.

    A stroke that begins on a particle makes it larger; one that begins on background adds a particle. Other particles
    stay as they are.

    Raises:
        InputError: for a stroke without points, a width that is no positive number, and where no background is painted.
    """
    if not len(stroke) or not 0 < width < np.inf:
        raise InputError(f"a stroke of {len(stroke)} points, {width:g} px wide, paints nothing")
    painted = stroke_pixels(stroke, width, labels.shape)
    y, x = (int(np.floor(value)) for value in stroke[0])
    inside = 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]
    return _add(labels, painted, int(labels[y, x]) if inside else 0)


def _add(labels: np.ndarray, mask: np.ndarray, number: int = 0) -> np.ndarray:
    """Give the background in `mask` to the particle `number`, or to a new one where that is 0."""
    free = mask & (labels == 0)
    if not free.any():
        raise InputError("there is no background inside what was drawn: draw where no particle is yet")
    result = labels.copy()
    result[free] = number or int(labels.max()) + 1
    return result


def line_pixels(line: Sequence[Point] | np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The pixels under a polyline as a bool mask `[H, W]`; neighbours on it share an edge, so that nothing that is
    connected by corners leaks through."""
    mask = np.zeros(shape, bool)
    points = np.asarray(line, np.float64).reshape(-1, 2)
    for start, end in pairwise(points):
        length = np.abs(end - start).max()
        along = np.linspace(0, 1, max(2, int(np.ceil(4 * length)) + 1))[:, None]
        pixels = np.floor(start + along * (end - start)).astype(np.int64)
        # A step over a corner gets the pixel beside it.
        steps = np.flatnonzero(np.abs(np.diff(pixels, axis=0)).sum(axis=1) == 2)
        corners = np.stack([pixels[steps + 1, 0], pixels[steps, 1]], axis=1)
        pixels = np.concatenate([pixels, corners])
        inside = ((pixels >= 0) & (pixels < shape)).all(axis=1)
        mask[tuple(pixels[inside].T)] = True
    return mask


def stroke_pixels(stroke: Sequence[Point], width: float, shape: tuple[int, int]) -> np.ndarray:
    """The pixels `[H, W]`, bool, whose centres are within half of `width` px of a polyline, and those under it."""
    points = np.asarray(stroke, np.float64).reshape(-1, 2)
    if len(points) == 1:
        points = np.repeat(points, 2, axis=0)
    mask = line_pixels(points, shape)
    radius = width / 2
    for start, end in pairwise(points):
        low = np.maximum(np.floor(np.minimum(start, end) - radius), 0).astype(int)
        high = np.minimum(np.ceil(np.maximum(start, end) + radius), shape).astype(int)
        if (high <= low).any():
            continue
        y = np.arange(low[0], high[0])[:, None] + 0.5 - start[0]
        x = np.arange(low[1], high[1])[None] + 0.5 - start[1]
        (dy, dx), square = end - start, float(((end - start) ** 2).sum())
        along = np.clip((y * dy + x * dx) / square, 0, 1) if square else np.zeros((1, 1))
        near = (y - along * dy) ** 2 + (x - along * dx) ** 2 <= radius**2
        mask[low[0] : high[0], low[1] : high[1]] |= near
    return mask


def renumbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The label image int32 `[H, W]` with the ids 1 … N in the order of the old ones, and the old ids `[N]`."""
    present, places = np.unique(labels, return_inverse=True)
    first = int(np.searchsorted(present, 1))
    numbers = np.maximum(np.arange(len(present)) - first + 1, 0).astype(np.int32)
    return numbers[places.reshape(labels.shape)], present[first:]


def _box(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The rows and columns of a mask's true pixels, and `margin` px around them."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + 1 + margin),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + 1 + margin),
    )


@dataclass
class Corrections:
    """A label image `[H, W]` and what was there before each edit, so that edits can be undone.

    Only the box that an edit changes is kept of the time before it; of more than `MOST_UNDONE` edits the last ones.
    """

    labels: np.ndarray
    before: list[tuple[slice, slice, np.ndarray]] = field(default_factory=list)

    def apply(self, edited: np.ndarray) -> None:
        """Take `edited` `[H, W]`, which an edit made of `labels`, for the label image."""
        changed = edited != self.labels
        if not changed.any():
            return
        rows, columns = _box(changed, 0)
        self.before.append((rows, columns, self.labels[rows, columns].copy()))
        del self.before[:-MOST_UNDONE]
        self.labels = edited

    def undo(self) -> None:
        """Take the last edit back. Raises: InputError when there is none."""
        if not self.before:
            raise InputError("there is nothing to undo")
        rows, columns, old = self.before.pop()
        self.labels = self.labels.copy()
        self.labels[rows, columns] = old
