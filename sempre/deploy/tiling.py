"""Detect in overlapping tiles, and give each particle once: seen whole, or put together from its pieces."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sempre.deploy.painting import paint_particles
from sempre.deploy.paste import paste_masks

Detect = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in px, exclusive ends

SAME_PARTICLE = 0.5
CUT_MARGIN = 2  # px; a pasted mask that ends nearer to its tile's border than this is cut by it


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


def detect_in_tiles(
    pixels: np.ndarray, detect: Detect, tile: int, overlap: int, mask_threshold: float = 0.5
) -> list[Instance]:
    """Every particle of a micrograph `[H, W]` once, from a detector that sees one tile at a time.

    A particle no larger than the overlap lies whole inside some tile. So an instance that its tile's border cuts is
    dropped where another tile sees all of it and more; two whole views of a particle (IoU of at least 1/2) give the
    better scored one. What is still cut is larger than the overlap, and is the union of its pieces: two belong
    together if they agree inside the strip that both tiles see (IoU of at least 1/2), or if half of one is the other's.

    Args:
        pixels: `[H, W]`, already normalised over the whole micrograph, so that tiles agree.
        detect: takes a tile `[h, w]`, returns boxes `[N, 4]` (x0, y0, x1, y1, px), scores `[N]` and mask
            probabilities `[N, M, M]`.
        tile: side of a tile in px; a tile of the micrograph's size sees it whole.
        overlap: of neighbouring tiles in px, at least.
        mask_threshold: a pixel belongs to the instance from this probability on.

    Memory holds the masks of the kept instances, each in its own box, and one tile's activations.
    """
    shape = pixels.shape
    tiles = list(tile_boxes(shape, tile, overlap))
    found = [list(_detect_in_tile(pixels, detect, box, mask_threshold)) for box in tiles]
    if len(tiles) == 1:
        return found[0]
    whole: list[tuple[int, Instance]] = []
    cut: list[tuple[int, Instance]] = []
    for number, instances in enumerate(found):
        for instance in instances:
            if not _is_cut(instance.box, tiles[number], shape):
                whole.append((number, instance))
            elif not _seen_further(instance.box, number, tiles, shape):
                cut.append((number, instance))
    once = _without_repeats(whole)
    pieces = _without_pieces_of(once, cut)
    return [instance for _, instance in once] + _join_pieces(pieces, tiles)


def tile_boxes(shape: tuple[int, int], tile: int, overlap: int) -> Iterator[Box]:
    """Boxes of equal size, evenly spread, that cover `shape` and overlap by at least `overlap` px."""
    height, width = (min(tile, side) for side in shape)
    for y in _starts(shape[0], tile, overlap):
        for x in _starts(shape[1], tile, overlap):
            yield x, y, x + width, y + height


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    count = max(1, -(-(length - overlap) // (tile - overlap)))
    return np.linspace(0, max(length - tile, 0), count).astype(int).tolist()


def _detect_in_tile(pixels: np.ndarray, detect: Detect, tile: Box, mask_threshold: float) -> Iterator[Instance]:
    """Instances of one tile in the micrograph's coordinates; what others of the tile hide anyway is left out."""
    left, top, right, bottom = tile
    view = pixels[top:bottom, left:right]
    boxes, scores, masks = detect(view)
    pasted = paste_masks(boxes, masks, view.shape, mask_threshold)
    _, kept = paint_particles(pasted, scores, view.shape)  # bounds the memory: kept masks sum to at most 4 tiles
    for index in kept.tolist():
        y, x, mask = pasted[index]
        yield Instance(left + x, top + y, mask, float(scores[index]))


def _is_cut(box: Box, tile: Box, shape: tuple[int, int]) -> bool:
    """Whether a border of `tile`, other than the micrograph's own, cuts `box`, or lies inside it."""
    limits = (shape[1], shape[0])
    starts = any(tile[axis] > 0 and box[axis] < tile[axis] + CUT_MARGIN for axis in (0, 1))
    ends = any(tile[axis + 2] < limits[axis] and box[axis + 2] > tile[axis + 2] - CUT_MARGIN for axis in (0, 1))
    return starts or ends


def _seen_further(box: Box, number: int, tiles: list[Box], shape: tuple[int, int]) -> bool:
    """Whether another tile sees all of `box` and what lies around it."""
    return any(other != number and not _is_cut(box, tile, shape) for other, tile in enumerate(tiles))


def _without_repeats(whole: list[tuple[int, Instance]]) -> list[tuple[int, Instance]]:
    """Of instances that different tiles saw whole and that are the same particle, the best scored."""
    order = sorted(range(len(whole)), key=lambda index: -whole[index][1].score)
    ranked = [whole[index] for index in order]
    repeats: dict[int, list[int]] = {}
    for first, second in _pairs(ranked):
        (_, a), (_, b) = ranked[first], ranked[second]
        shared = _shared_pixels(a, b, _intersection(a.box, b.box))
        if shared >= SAME_PARTICLE * (a.mask.sum() + b.mask.sum() - shared):
            repeats.setdefault(second, []).append(first)
    dropped: set[int] = set()
    for second in sorted(repeats):
        if not dropped.issuperset(repeats[second]):
            dropped.add(second)
    return [entry for index, entry in enumerate(ranked) if index not in dropped]


def _without_pieces_of(
    whole: list[tuple[int, Instance]], cut: list[tuple[int, Instance]]
) -> list[tuple[int, Instance]]:
    """The cut instances of which no other tile's whole instance covers half."""
    covered = set()
    for first, second in _pairs(whole + cut):
        if first < len(whole) <= second:
            (_, a), (_, b) = whole[first], cut[second - len(whole)]
            if _shared_pixels(a, b, _intersection(a.box, b.box)) >= SAME_PARTICLE * b.mask.sum():
                covered.add(second - len(whole))
    return [entry for index, entry in enumerate(cut) if index not in covered]


def _join_pieces(pieces: list[tuple[int, Instance]], tiles: list[Box]) -> list[Instance]:
    """Unions of the pieces that agree inside the strip their tiles share; the score is the best of the pieces.

    Half of a whole piece counts too: a thin piece at a border agrees badly. Half of what a piece has inside the strip
    would not do: of a neighbour that only just reaches into the strip, a few overlapping pixels are half.
    """
    links = []
    for first, second in _pairs(pieces):
        (tile, a), (other, b) = pieces[first], pieces[second]
        strip = _intersection(tiles[tile], tiles[other])
        shared = _shared_pixels(a, b, _intersection(a.box, b.box))
        union = sum(int(piece.window(_intersection(piece.box, strip)).sum()) for piece in (a, b)) - shared
        if shared and shared >= SAME_PARTICLE * min(union, a.mask.sum(), b.mask.sum()):
            links.append((first, second))
    rows, columns = np.array(links, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(pieces),) * 2)
    groups = connected_components(graph, directed=False)[1] if pieces else np.zeros(0, int)
    return [
        _union([pieces[index][1] for index in np.flatnonzero(groups == group)])
        for group in range(max(groups, default=-1) + 1)
    ]


def _union(pieces: list[Instance]) -> Instance:
    if len(pieces) == 1:
        return pieces[0]
    boxes = np.array([piece.box for piece in pieces])
    (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    mask = np.zeros((y1 - y0, x1 - x0), dtype=bool)
    for piece in pieces:
        left, top, right, bottom = piece.box
        mask[top - y0 : bottom - y0, left - x0 : right - x0] |= piece.mask
    return Instance(x0, y0, mask, max(piece.score for piece in pieces))


def _pairs(entries: list[tuple[int, Instance]]) -> Iterator[tuple[int, int]]:
    """Rising pairs of instances from different tiles whose boxes overlap."""
    members: dict[int, list[int]] = {}
    for index, (number, _) in enumerate(entries):
        members.setdefault(number, []).append(index)
    boxes = np.array([instance.box for _, instance in entries], dtype=np.int64).reshape(-1, 4)
    for first, second in combinations(members.values(), 2):
        a, b = boxes[first, None], boxes[None, second]
        overlapping = (np.maximum(a[..., :2], b[..., :2]) < np.minimum(a[..., 2:], b[..., 2:])).all(axis=-1)
        for i, j in np.argwhere(overlapping).tolist():
            yield min(first[i], second[j]), max(first[i], second[j])


def _intersection(a: Box, b: Box) -> Box:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _shared_pixels(a: Instance, b: Instance, box: Box) -> int:
    return int(np.count_nonzero(a.window(box) & b.window(box)))
