"""Detect in overlapping tiles, and paint what was found as a label image."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sempre.segmentation.detections import Box, Instance, View, merge_views, paste_masks

REDUCTION = 4  # each coarser look sees a micrograph this many times smaller than the one before it


@dataclass(frozen=True)
class Detections:
    """Boxes `[N, 4]` (x0, y0, x1, y1, px of the view), scores `[N]`, mask probabilities `[N, M, M]`, and whether there
    may be particles for which the detector had no room."""

    boxes: np.ndarray
    scores: np.ndarray
    masks: np.ndarray
    overflows: bool = False


Detect = Callable[[np.ndarray, int], Detections]


def detect_in_tiles(
    pixels: np.ndarray,
    detect: Detect,
    tile: int,
    overlap: int,
    mask_threshold: float = 0.5,
    least_tile: int = 64,
) -> tuple[list[Instance], list[Box]]:
    """Every particle of a micrograph `[H, W]` once, from a detector that sees a tile at a time and lists only so many.

    A particle no larger than the overlap lies whole inside some tile. Larger ones, up to half the micrograph, do so in
    a coarser look: tile and overlap grow `REDUCTION` times, and the detector sees them reduced as much, so that it sees
    no particle at a size that it does not know. A tile that overflows is cut into four and done again. `merge_views`
    makes one list of it all.

    Args:
        pixels: `[H, W]`, already normalised over the whole micrograph, so that tiles agree.
        detect: takes a view `[h, w]` and how many times smaller the detector shall see it.
        tile: side of a tile in px; a tile of the micrograph's size sees it whole.
        overlap: of neighbouring tiles in px, at least.
        mask_threshold: a pixel belongs to the instance from this probability on.
        least_tile: px; a tile is not cut into smaller ones than this.

    Returns:
        The particles, and the boxes of the tiles that still overflow but cannot be cut: particles may be missing there.

    Memory holds the masks of the kept instances, each in its own box, and one tile's activations.
    """
    views = look_in_tiles(pixels, detect, tile, overlap, mask_threshold, least_tile)
    return merge_views(views, pixels.shape), overflowing(views)


def overflowing(views: list[View]) -> list[Box]:
    """The boxes of the views in which particles may be missing."""
    return [view.box for view in views if view.overflows]


def look_in_tiles(
    pixels: np.ndarray, detect: Detect, tile: int, overlap: int, mask_threshold: float, least_tile: int
) -> list[View]:
    """The views that `detect_in_tiles` puts together, of the same arguments."""
    shape = pixels.shape
    views: list[View] = []
    for box in tile_boxes(shape, tile, overlap):
        views += _look_closely(pixels, detect, box, overlap, mask_threshold, least_tile)
    for reduction in reductions(shape, tile, overlap, least_tile):
        least_side = max(overlap * reduction // REDUCTION, 1)
        for box in tile_boxes(shape, tile * reduction, overlap * reduction):
            instances, _ = _detect_in_tile(pixels, detect, box, reduction, mask_threshold)
            views.append(View(box, instances, least_side))
    return views


def reductions(shape: tuple[int, int], tile: int, overlap: int, least_tile: int) -> Iterator[int]:
    """How many times smaller the coarser looks at a micrograph `[H, W]` see it."""
    reduction = 1
    while tile < max(shape) and max(overlap, least_tile) * reduction < max(shape) // 2:
        reduction *= REDUCTION
        yield reduction


def count_tiles(shape: tuple[int, int], tile: int, overlap: int, least_tile: int) -> int:
    """How often `detect_in_tiles` looks at a micrograph `[H, W]`; more often if tiles overflow."""
    looks = (1, *reductions(shape, tile, overlap, least_tile))
    return sum(sum(1 for _ in tile_boxes(shape, tile * look, overlap * look)) for look in looks)


def _look_closely(
    pixels: np.ndarray, detect: Detect, box: Box, overlap: int, mask_threshold: float, least_tile: int
) -> Iterator[View]:
    """The view of a tile, and those of its quarters if it overflows."""
    instances, overflows = _detect_in_tile(pixels, detect, box, 1, mask_threshold)
    quarters, narrower = quarter(box, overlap)
    if overflows and max(quarters[0][2] - quarters[0][0], quarters[0][3] - quarters[0][1]) >= least_tile:
        yield View(box, instances, least_side=narrower)
        for part in quarters:
            yield from _look_closely(pixels, detect, part, narrower, mask_threshold, least_tile)
    else:
        yield View(box, instances, overflows=overflows)


def _detect_in_tile(
    pixels: np.ndarray, detect: Detect, tile: Box, reduction: int, mask_threshold: float
) -> tuple[list[Instance], bool]:
    """Instances of one tile in the micrograph's coordinates, and whether there may be more than there was room for.

    What others of the tile hide anyway is left out.
    """
    left, top, right, bottom = tile
    view = pixels[top:bottom, left:right]
    found = detect(view, reduction)
    pasted = paste_masks(found.boxes, found.masks, view.shape, mask_threshold)
    _, kept = paint_particles(pasted, found.scores, view.shape)  # bounds the memory: kept masks sum to at most 4 tiles
    instances = [
        Instance(left + pasted[index][1], top + pasted[index][0], pasted[index][2], float(found.scores[index]))
        for index in kept.tolist()
    ]
    return instances, found.overflows


def tile_boxes(shape: tuple[int, int], tile: int, overlap: int) -> Iterator[Box]:
    """Boxes of equal size, evenly spread, that cover `shape` and overlap by at least `overlap` px."""
    height, width = (min(tile, side) for side in shape)
    for y in starts(shape[0], tile, overlap):
        for x in starts(shape[1], tile, overlap):
            yield x, y, x + width, y + height


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles start that cover `length` px, evenly spread; the one of what is no longer than a tile at 0."""
    if length <= tile:  # which may be as short as the overlap then
        return [0]
    count = -(-(length - overlap) // (tile - overlap))
    return np.linspace(0, length - tile, count).astype(int).tolist()


def quarter(box: Box, overlap: int) -> tuple[list[Box], int]:
    """A tile's quarters (halves, if it is more than twice as long as wide), and the px that they overlap by.

    That is `overlap`, but a quarter of the longer side at most, or they would hardly be smaller.
    """
    x0, y0, x1, y1 = box
    longer = max(x1 - x0, y1 - y0)
    overlap = max(min(overlap, longer // 4), 1)
    parts = tile_boxes((y1 - y0, x1 - x0), (longer + overlap + 1) // 2, overlap)
    return [(x0 + left, y0 + top, x0 + right, y0 + bottom) for left, top, right, bottom in parts], overlap


MIN_VISIBLE_SHARE = 0.25


def paint_particles(
    masks: Sequence[tuple[int, int, np.ndarray]], scores: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """A label image of overlapping instances: the higher score lies on top, and what it nearly hides is left out.

    Two detections of one particle leave a thin sliver of the lower one around the higher. As in Kirillov et al.,
    "Panoptic Segmentation", CVPR 2019, instances are taken by falling score, and one of which less than
    `MIN_VISIBLE_SHARE` of its mask is still free is dropped; what it would have covered stays free for the next.

    Args:
        masks: (y0, x0, bool crop `[h, w]`) of each instance, inside the image.
        scores: `[N]`.
        shape: height and width of the micrograph in px.

    Returns:
        The label image int32 `[H, W]` with ids 1 … K, and the positions `[K]` of the kept instances: id k is instance
        `kept[k - 1]`. The image is `sempre.images.paint_instances` of the kept.
    """
    labels = np.zeros(shape, np.int32)
    kept = []
    for index in np.argsort(-np.asarray(scores), kind="stable").tolist():
        y, x, mask = masks[index]
        region = labels[y : y + mask.shape[0], x : x + mask.shape[1]]
        visible = mask & (region == 0)
        pixels = np.count_nonzero(visible)
        if pixels == 0 or pixels < MIN_VISIBLE_SHARE * np.count_nonzero(mask):
            continue
        kept.append(index)
        region[visible] = len(kept)
    return labels, np.array(kept, dtype=np.int64)
