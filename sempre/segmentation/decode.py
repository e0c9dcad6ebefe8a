"""From a dense segmenter's maps to instances: markers where the depth is large, and one watershed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

SMOOTHING = 1.0  # deviation of the Gaussian that the depth is smoothed by, px of the maps
BLOCK, HALO = 2048, 512  # px of the maps that one watershed sees, and what it sees around them
ROWS = 512  # that are worked on at once where more would take more memory than the rest
OPENING = 0.25  # radius of the disc that opens a particle, in radii of the largest disc that it holds
LEAST_OPENING = 2.0  # px of the maps
NOBODY = -1  # the label of foreground that belongs to no particle


@dataclass(frozen=True)
class Decoding:
    """What counts as a particle.

    Foreground is where the probability passes `foreground`; a particle begins where the depth, 1 at its deepest,
    passes `marker` and somewhere reaches `least_depth`. Dropped is one of fewer than `smallest` px of the micrograph,
    of a mean probability below `least_score`, or nowhere as deep as `least_depth`.
    """

    foreground: float = 0.5
    marker: float = 0.5
    smallest: int = 12
    least_score: float = 0.5
    least_depth: float = 0.5


def decode(probability: np.ndarray, depth: np.ndarray, decoding: Decoding) -> np.ndarray:
    """Instances of whole maps.

    Each connected region above `decoding.marker` floods, by falling depth, the foreground around it; one that never
    reaches `decoding.least_depth` is flooded itself, and a region of foreground without any is one particle. Markers
    have one number over the whole map and what is flooded depends on what lies around alone, so that large maps are
    flooded block by block and none splits a particle.

    Args:
        probability: of foreground, `[h, w]`.
        depth: `[h, w]`.

    Returns:
        A label image int32 `[h, w]`, 0 = background, ids 1 to N without gaps. Nothing is dropped for its size.
    """
    foreground = probability > decoding.foreground
    smooth = ndimage.gaussian_filter(depth, SMOOTHING, output=np.float32)
    markers, marked = ndimage.label((smooth > decoding.marker) & foreground)
    deep = deepest(markers, depth, marked + 1) >= decoding.least_depth
    deep[0] = False
    renumber(markers, np.where(deep, np.cumsum(deep), 0))
    marked = np.count_nonzero(deep)
    regions, count = ndimage.label(foreground)
    has_marker = np.zeros(count + 1, bool)
    has_marker[regions[markers > 0]] = True
    has_marker[0] = True
    # Regions without a marker become markers themselves, whole.
    numbers = np.zeros(count + 1, np.int32)
    numbers[~has_marker] = marked + 1 + np.arange(np.count_nonzero(~has_marker))
    np.copyto(markers, numbers[regions], where=~has_marker[regions])
    del regions
    labels = np.zeros(foreground.shape, np.int32)
    for inner, outer in blocks(foreground.shape, BLOCK, HALO):
        flooded = watershed(-smooth[outer], markers[outer], mask=foreground[outer])
        rows, columns = (
            slice(core.start - around.start, core.stop - around.start)
            for core, around in zip(inner, outer, strict=True)
        )
        labels[inner] = flooded[rows, columns]
    return labels


def believed(labels: np.ndarray, probability: np.ndarray, depth: np.ndarray, decoding: Decoding) -> np.ndarray:
    """The instances of maps, all `[h, w]`, that are probable and deep enough; ids 1 to N without gaps.

    The others, and what juts out of the particles (`open_instances`), are `NOBODY`'s.
    """
    count = int(labels.max(initial=0)) + 1
    areas, sums = areas_and_sums(labels, probability, count)
    scores = sums / np.maximum(areas, 1)
    kept = (scores >= decoding.least_score) & (deepest(labels, depth, count) >= decoding.least_depth)
    numbers = np.where(kept, np.cumsum(kept), NOBODY)
    numbers[0] = 0
    chosen = numbers.astype(np.int32)[labels]
    open_instances(chosen)
    return chosen


def open_instances(labels: np.ndarray) -> None:
    """Open each instance of `[h, w]` by a disc of `OPENING` of its own width, in place, and leave of it one piece.

    What that takes away, tongues along faint edges and bits, becomes `NOBODY`'s; what would be opened by less than
    `LEAST_OPENING` is left as it is. Beyond the border all goes on as at it.
    """
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        instance = labels[around] == number
        area = np.count_nonzero(instance)
        if OPENING * np.sqrt(area / np.pi) < LEAST_OPENING or area == instance.size:
            continue
        distance = ndimage.distance_transform_edt(instance)
        radius = OPENING * distance.max()
        if radius < LEAST_OPENING:
            continue
        opened = instance & (ndimage.distance_transform_edt(distance <= radius) <= radius)
        pieces, count = ndimage.label(opened)
        if count > 1:
            opened = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
        labels[around][instance & ~opened] = NOBODY


def renumber(labels: np.ndarray, numbers: np.ndarray) -> None:
    """Give the px of each label of `[H, W]` its number of `[N]`, in place."""
    for start in range(0, len(labels), ROWS):
        labels[start : start + ROWS] = numbers[labels[start : start + ROWS]]


def deepest(labels: np.ndarray, depth: np.ndarray, count: int) -> np.ndarray:
    """The largest depth, float32 `[count]`, in each of the labels 0 to `count` - 1 of `[h, w]`.

    `scipy.ndimage.maximum` would sort all px for it.
    """
    largest = np.full(count, -np.inf, np.float32)
    np.maximum.at(largest, labels.ravel(), depth.ravel())
    return largest


def areas_and_sums(labels: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the labels 0 to `count` - 1 of `[H, W]` the px, int64 `[count]`, and the sum of their values, float64.

    A few rows at a time, for counting takes copies of 16 bytes a px.
    """
    areas, sums = np.zeros(count, np.int64), np.zeros(count)
    for start in range(0, len(labels), ROWS):
        part = labels[start : start + ROWS].ravel()
        areas += np.bincount(part, minlength=count)
        sums += np.bincount(part, weights=values[start : start + ROWS].ravel(), minlength=count)
    return areas, sums


def blocks(shape: tuple[int, int], side: int, halo: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Blocks of at most `side` px that cover `shape`, each with the same block grown by `halo` px inside of it."""
    for y in range(0, shape[0], side):
        for x in range(0, shape[1], side):
            inner = slice(y, min(y + side, shape[0])), slice(x, min(x + side, shape[1]))
            outer = tuple(
                slice(max(part.start - halo, 0), min(part.stop + halo, length))
                for part, length in zip(inner, shape, strict=True)
            )
            yield inner, outer
