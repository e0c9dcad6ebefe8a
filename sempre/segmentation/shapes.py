"""Lengths and shapes of the instances of a label image, corrected for the pixel grid.

A pixel is 1 wide and `tall` high: all lengths are in widths of a pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull

# Directions (x, y) in which outlines are crossed, by the shortest steps between pixels.
STEPS = ((1, 0), (0, 1), (1, 1), (1, -1), (2, 1), (2, -1), (1, 2), (1, -2))
REACH = 2  # px, the longest of the steps along x or y
NEIGHBOURS = STEPS[:4]  # the steps to pixels that share an edge or a corner
ROWS = 512  # of a label image that are looked at together, which bounds the memory
ROUNDING = 1e-9  # px: lines of the hull that miss a pixel's centre by less go through it


@dataclass(frozen=True)
class Crossings:
    """What the rows, columns and slanted lines of pixels meet in a label image.

    `entered` int64 `[len(STEPS), N]`: how often the lines of each direction enter the instances 1 … N; `touching`
    `[M, 2]`: the pairs of instances, from 0, with pixels that share an edge or a corner, the smaller number first.
    """

    entered: np.ndarray
    touching: np.ndarray


def cross(labels: np.ndarray, count: int) -> Crossings:
    """Look at the outlines of the instances 1 to `count` of a label image `[H, W]` along `STEPS`."""
    entered = np.zeros((len(STEPS), count), np.int64)
    pairs = [np.zeros((0, 2), np.int64)]
    for padded in _bands(labels):
        width = padded.shape[1]
        flat = padded.ravel()
        inner = np.zeros(padded.shape, bool)
        core = padded[REACH:-REACH, REACH:-REACH]
        inner[REACH:-REACH, REACH:-REACH] = (core > 0) & (core <= count)
        places = np.flatnonzero(inner)
        own = flat[places]
        for direction, (dx, dy) in enumerate(STEPS):
            before = flat[places - (dy * width + dx)]
            outside = before != own
            entered[direction] += np.bincount(own[outside], minlength=count + 1)[1:]
            if (dx, dy) in NEIGHBOURS:
                met = outside & (before > 0) & (before <= count)
                pairs.append(np.unique(np.sort(np.stack([before[met], own[met]], axis=1) - 1, axis=1), axis=0))
    return Crossings(entered, np.unique(np.concatenate(pairs), axis=0))


def _bands(labels: np.ndarray) -> Iterator[np.ndarray]:
    """`ROWS` rows at a time, with `REACH` more pixels on each side, which are 0 outside of the image."""
    for start in range(0, len(labels), ROWS):
        top, bottom = max(start - REACH, 0), min(start + ROWS + REACH, len(labels))
        above = REACH - (start - top)
        below = REACH - max(bottom - min(start + ROWS, len(labels)), 0)
        yield np.pad(labels[top:bottom], [(above, below), (REACH, REACH)])


def perimeters(entered: np.ndarray, areas: np.ndarray, tall: float = 1.0) -> np.ndarray:
    """Lengths `[N]` of outlines, holes' among them, by Crofton's formula.

    The length of an outline is the mean, over all directions, of how often lines enter it (Legland, Kiêu and Devaux,
    "Computation of Minkowski measures on 2D and 3D binary images", Image Analysis & Stereology 26, 2007).
    `skimage.measure.perimeter_crofton` does it with four directions. We take the eight of `STEPS`, which halves the
    error of straight edges. Pixels along a line miss what lies between them, so that small instances would come out
    short: the result is divided by what the formula gives, on average, for discs of their areas.

    Args:
        entered: `[len(STEPS), N]`, see `Crossings`.
        areas: `[N]`, px.
    """
    steps = np.array(STEPS) * (1.0, tall)
    lengths = np.hypot(*steps.T)
    weights = _shares_of_directions(steps) * tall / lengths  # a line a pixel, the lines `tall / length` apart
    radii = np.sqrt(areas * tall / np.pi)
    # Of a disc, the lines enter it at the pixels of which the step back leads outside: the disc less its shifted copy.
    half = np.minimum(lengths[:, None] / (2 * radii), 1)
    overlap = 2 * radii**2 * (np.arccos(half) - half * np.sqrt(1 - half**2))
    of_discs = weights @ (np.pi * radii**2 - overlap) / tall
    return (weights @ entered) * (2 * np.pi * radii / of_discs)


def _shares_of_directions(steps: np.ndarray) -> np.ndarray:
    """Of pi, the angles nearest to each of the directions (x, y) `[K, 2]`."""
    angles = np.arctan2(steps[:, 1], steps[:, 0]) % np.pi
    order = np.argsort(angles)
    ahead = np.diff(np.append(angles[order], angles[order[0]] + np.pi))
    shares = np.empty(len(steps))
    shares[order] = (ahead + np.roll(ahead, 1)) / 2
    return shares


def outline(mask: np.ndarray) -> np.ndarray:
    """The pixels (x, y) `[K, 2]` of a bool mask `[h, w]` that share an edge with one outside of it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    y, x = np.nonzero(mask & ~inner)
    return np.stack([x, y], axis=1)


@dataclass(frozen=True)
class Hull:
    """The convex hull of the centres of a mask's pixels.

    `vertices` (x, y) `[K, 2]` in order, from pixel (0, 0) of the mask; `left` and `right` `[h]`: the first and the last
    column that it takes in each row.
    """

    vertices: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @property
    def area(self) -> int:
        """Pixels whose centres lie inside it."""
        return int((self.right - self.left + 1).sum())

    def mask(self) -> np.ndarray:
        """These pixels, bool `[h, w]`."""
        columns = np.arange(self.right.max() + 1)
        return (columns >= self.left[:, None]) & (columns <= self.right[:, None])


def hull_of(mask: np.ndarray) -> Hull:
    """The convex hull of a bool mask `[h, w]` with pixels in its first and its last row."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    left = _lower_chain(rows.tolist(), first.tolist())
    right = [(y, -x) for y, x in _lower_chain(rows.tolist(), (-last).tolist())]
    every = np.arange(len(mask))
    most_left = np.interp(every, *np.array(left, float).T)
    most_right = np.interp(every, *np.array(right, float).T)
    return Hull(
        np.array([(x, y) for y, x in left + right[::-1]]),
        np.ceil(most_left - ROUNDING).astype(np.int64),
        np.floor(most_right + ROUNDING).astype(np.int64),
    )


def _lower_chain(at: list[int], values: list[int]) -> list[tuple[int, int]]:
    """The vertices of the convex hull below the points (`at`, `values`), which rise in `at` (Andrew 1979)."""
    chain: list[tuple[int, int]] = []
    for point in zip(at, values, strict=True):
        while len(chain) > 1:
            (a, u), (b, v) = chain[-2:]
            if (b - a) * (point[1] - u) > (point[0] - a) * (v - u):
                break
            chain.pop()
        chain.append(point)
    return chain


def feret_diameters(mask: np.ndarray, tall: float = 1.0) -> tuple[float, float]:
    """Largest and smallest calliper width of a bool mask `[h, w]`, in widths of a pixel, exact for its pixels as
    rectangles of width 1 and height `tall`.

    Two corners of pixels are the farthest apart; the smallest width is met with one jaw flat on an edge of the hull
    (Toussaint, "Solving geometric problems with the rotating calipers", MELECON 1983).
    """
    return calliper_widths(hull_of(mask).vertices, tall)


def calliper_widths(vertices: np.ndarray, tall: float = 1.0) -> tuple[float, float]:
    """As `feret_diameters`, of the hull `[K, 2]` of the pixels' centres.

    The hull of the pixels' corners is the hull of their centres plus a pixel: its edges are those of both.
    """
    vertices = vertices * (1.0, tall)
    apart = np.abs(vertices[None] - vertices[:, None])
    largest = np.hypot(apart[..., 0] + 1, apart[..., 1] + tall).max()
    edges = np.roll(vertices, -1, axis=0) - vertices
    edges = np.concatenate([edges[np.any(edges != 0, axis=1)], np.eye(2)])
    x, y = (edges / np.hypot(*edges.T)[:, None]).T
    heights = np.ptp(np.outer(x, vertices[:, 1]) - np.outer(y, vertices[:, 0]), axis=1)
    return float(largest), float((heights + np.abs(x) * tall + np.abs(y)).min())


def solidity(mask: np.ndarray) -> float:
    """The area of a bool mask `[h, w]` over that of its convex hull, both of its pixels as unit squares; at most 1.

    A small disc has a low one, for its pixels' corners stand out. The column of the results counts pixels.
    """
    return float(np.count_nonzero(mask) / ConvexHull(pixel_corners(mask)).volume)


def pixel_corners(mask: np.ndarray) -> np.ndarray:
    """The outermost corners (x, y) `[K, 2]`, integers, of every row of pixels, by rising x, then y."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    end = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    x = np.concatenate([first, first, end, end])
    y = np.concatenate([rows, rows + 1, rows, rows + 1])
    # One number a corner: to sort the rows of an array takes longer than all the rest.
    corners = np.unique(x * (len(mask) + 1) + y)
    return np.stack(np.divmod(corners, len(mask) + 1), axis=1)
