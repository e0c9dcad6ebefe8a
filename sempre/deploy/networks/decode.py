"""From a dense segmenter's maps to instances: markers where the depth is large, and one watershed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

SMOOTHING = 1.0  # deviation of the Gaussian that the depth is smoothed by, px of the maps
BLOCK, HALO = 2048, 512  # px of the maps that one watershed sees, and what it sees around them
ROWS = 512  # that are worked on at once where more would take more memory than the rest


@dataclass(frozen=True)
class Decoding:
    """What counts as a particle.

    Foreground is where the probability passes `foreground`; a particle begins where the depth, 1 at its deepest,
    passes `marker`. Dropped is one of fewer than `smallest` px of the micrograph, of a mean probability below
    `least_score`, or nowhere as deep as `least_depth`.
    """

    foreground: float = 0.5
    marker: float = 0.5
    smallest: int = 12
    least_score: float = 0.5
    least_depth: float = 0.5


def decode(probability: np.ndarray, depth: np.ndarray, decoding: Decoding) -> np.ndarray:
    """Instances of whole maps.

    Each connected region above `decoding.marker` floods, by falling depth, the foreground around it; a region of
    foreground without one is one particle. Markers have one number over the whole map and what is flooded depends on
    what lies around alone, so that large maps are flooded block by block and none splits a particle.

    Args:
        probability: of foreground, `[h, w]`.
        depth: `[h, w]`.

    Returns:
        A label image int32 `[h, w]`, 0 = background, ids 1 to N without gaps. Nothing is dropped for its size.
    """
    foreground = probability > decoding.foreground
    depth = ndimage.gaussian_filter(depth, SMOOTHING, output=np.float32)
    markers, marked = ndimage.label((depth > decoding.marker) & foreground)
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
        flooded = watershed(-depth[outer], markers[outer], mask=foreground[outer])
        rows, columns = (
            slice(core.start - around.start, core.stop - around.start)
            for core, around in zip(inner, outer, strict=True)
        )
        labels[inner] = flooded[rows, columns]
    return labels


def believed(labels: np.ndarray, probability: np.ndarray, depth: np.ndarray, decoding: Decoding) -> np.ndarray:
    """The instances of maps, all `[h, w]`, that are probable and deep enough; ids 1 to N without gaps."""
    count = int(labels.max(initial=0)) + 1
    areas, sums = areas_and_sums(labels, probability, count)
    scores = sums / np.maximum(areas, 1)
    kept = (scores >= decoding.least_score) & (deepest(labels, depth, count) >= decoding.least_depth)
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels]


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
