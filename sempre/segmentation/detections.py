"""What a detector finds: instances, their small masks pasted, and overlapping views merged."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

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


SAME_PARTICLE = 0.5
CUT_MARGIN = 2  # px; a pasted mask that ends nearer to its view's border than this is cut by it
OCCUPIED = 0.25  # share of a large instance that may be other particles
SMALL = 0.5  # of a view's least side; particles up to this are those of closer views, whatever they score


@dataclass(frozen=True)
class View:
    """A box of the micrograph and the instances found in it.

    `least_side` is 0 for the closest views. One that closer views go over again counts for particles alone that are
    longer than `least_side` px, for those the closer ones may have cut. `overflows`: particles may be missing.
    """

    box: Box
    instances: list[Instance]
    least_side: int = 0
    overflows: bool = False


Found = list[tuple[int, Instance]]  # instances, each with its view's number


def merge_views(views: list[View], shape: tuple[int, int]) -> list[Instance]:
    """Every particle of a micrograph of `shape` once, by these rules:

    1. Of the closest views (`least_side` 0), all whole instances count; of two that are the same particle (IoU of at
       least 1/2), the better scored. An instance that its view's border cuts is a piece unless one of them holds half
       of it.
    2. Of every other view, from the smallest to the largest, those instances come in that are whole, larger than
       `least_side` and hold half of a piece, unless a quarter of them is other particles: small ones, which closer
       views see better, or better scored ones. (Close up, a detector takes parts of a large particle for particles,
       but is not sure of them; seen from afar it is.)
    3. A piece that is left is dropped where another view sees all of it and more, and did not find it. Others are put
       together: two are the same particle if they agree inside the strip that both views see (IoU of at least 1/2), or
       if half of one is the other's.
    """
    boxes = [view.box for view in views]
    closest = {number for number, view in enumerate(views) if not view.least_side}
    whole: Found = []
    pieces: Found = []
    large: dict[int, Found] = {}
    for number, view in enumerate(views):
        for instance in view.instances:
            if _is_cut(instance.box, view.box, shape):
                if number in closest:
                    pieces.append((number, instance))
            elif number in closest:
                whole.append((number, instance))
            elif max(instance.mask.shape) > view.least_side:
                large.setdefault(_area(view.box), []).append((number, instance))
    once = _without_repeats(whole)
    pieces = _without_pieces_of(once, pieces)
    for area in sorted(large):
        candidates = _with_pieces(_without_repeats(large[area]), pieces)
        once += _without_occupied(once, candidates, views)
        pieces = _without_pieces_of(once, pieces)
    cut_everywhere = [
        (number, piece)
        for number, piece in pieces
        if all(_is_cut(piece.box, boxes[other], shape) for other in closest - {number})
    ]
    return [instance for _, instance in once] + _join_pieces(cut_everywhere, boxes)


def _is_cut(box: Box, view: Box, shape: tuple[int, int]) -> bool:
    """Whether a border of `view`, other than the micrograph's own, cuts `box`, or lies inside it."""
    limits = (shape[1], shape[0])
    starts = any(view[axis] > 0 and box[axis] < view[axis] + CUT_MARGIN for axis in (0, 1))
    ends = any(view[axis + 2] < limits[axis] and box[axis + 2] > view[axis + 2] - CUT_MARGIN for axis in (0, 1))
    return starts or ends


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _without_repeats(whole: Found) -> Found:
    """Of instances that different views saw whole and that are the same particle, the best scored."""
    ranked = sorted(whole, key=lambda entry: -entry[1].score)
    repeats: dict[int, list[int]] = {}
    for first, second in overlapping_pairs(ranked):
        (_, a), (_, b) = ranked[first], ranked[second]
        shared = shared_pixels(a, b)
        if shared >= SAME_PARTICLE * (a.mask.sum() + b.mask.sum() - shared):
            repeats.setdefault(second, []).append(first)
    dropped: set[int] = set()
    for second in sorted(repeats):
        if not dropped.issuperset(repeats[second]):
            dropped.add(second)
    return [entry for index, entry in enumerate(ranked) if index not in dropped]


def _pieces_of(once: Found, cut: Found) -> list[tuple[int, int]]:
    """Which instances hold half or more of which cut ones: positions in `once` and in `cut`."""
    held = []
    for first, second in overlapping_pairs(once + cut):
        if first < len(once) <= second:
            (_, a), (_, b) = once[first], cut[second - len(once)]
            if shared_pixels(a, b) >= SAME_PARTICLE * b.mask.sum():
                held.append((first, second - len(once)))
    return held


def _with_pieces(large: Found, cut: Found) -> Found:
    """The large instances that hold half of a cut one, of which the closer views thus have seen something."""
    seen = {first for first, _ in _pieces_of(large, cut)}
    return [entry for index, entry in enumerate(large) if index in seen]


def _without_occupied(once: Found, large: Found, views: list[View]) -> Found:
    """The large instances of which small or better scored ones in `once` leave free all but a small share."""
    occupied = [np.zeros_like(instance.mask) for _, instance in large]
    for first, second in overlapping_pairs(once + large):
        if first < len(once) <= second:
            (_, a), (number, b) = once[first], large[second - len(once)]
            if a.score < b.score and max(a.mask.shape) > SMALL * views[number].least_side:
                continue  # painting hides it
            x0, y0, x1, y1 = intersection(a.box, b.box)
            occupied[second - len(once)][y0 - b.y : y1 - b.y, x0 - b.x : x1 - b.x] |= a.window((x0, y0, x1, y1))
    return [
        (number, instance)
        for (number, instance), by in zip(large, occupied, strict=True)
        if np.count_nonzero(by & instance.mask) < OCCUPIED * np.count_nonzero(instance.mask)
    ]


def _without_pieces_of(once: Found, cut: Found) -> Found:
    """The cut instances of which no other view's whole instance holds half."""
    held = {second for _, second in _pieces_of(once, cut)}
    return [entry for index, entry in enumerate(cut) if index not in held]


def _join_pieces(pieces: Found, views: list[Box]) -> list[Instance]:
    """Unions of the pieces that agree inside the strip their views share; the score is the best of the pieces.

    Half of a whole piece counts too: a thin piece at a border agrees badly. Half of what a piece has inside the strip
    would not do: of a neighbour that only just reaches into the strip, a few overlapping pixels are half.
    """
    links = []
    for first, second in overlapping_pairs(pieces):
        (view, a), (other, b) = pieces[first], pieces[second]
        strip = intersection(views[view], views[other])
        shared = shared_pixels(a, b)
        either = sum(int(piece.window(intersection(piece.box, strip)).sum()) for piece in (a, b)) - shared
        if shared and shared >= SAME_PARTICLE * min(either, a.mask.sum(), b.mask.sum()):
            links.append((first, second))
    rows, columns = np.array(links, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(pieces),) * 2)
    groups = connected_components(graph, directed=False)[1] if pieces else np.zeros(0, int)
    return [
        union([pieces[index][1] for index in np.flatnonzero(groups == group)])
        for group in range(max(groups, default=-1) + 1)
    ]


def overlapping_pairs(entries: Found) -> Iterator[tuple[int, int]]:
    """Rising pairs of instances from different views whose boxes overlap."""
    boxes = np.array([instance.box for _, instance in entries], dtype=np.int64).reshape(-1, 4)
    members: dict[int, list[int]] = {}
    for index, (number, _) in enumerate(entries):
        members.setdefault(number, []).append(index)
    groups = list(members.values())
    # Of hundreds of views each overlaps a few: the others are passed over by what their instances span.
    spans = [[*boxes[group, :2].min(axis=0), *boxes[group, 2:].max(axis=0)] for group in groups]
    extents = np.array(spans, dtype=np.int64).reshape(-1, 4)
    for one, other in np.argwhere(np.triu(_overlapping(extents, extents), k=1)).tolist():
        first, second = groups[one], groups[other]
        for i, j in np.argwhere(_overlapping(boxes[first], boxes[second])).tolist():
            yield min(first[i], second[j]), max(first[i], second[j])


def _overlapping(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of boxes `[N, 4]` overlap which of others `[M, 4]`: bool `[N, M]`."""
    a, b = boxes[:, None], others[None]
    return np.asarray((np.maximum(a[..., :2], b[..., :2]) < np.minimum(a[..., 2:], b[..., 2:])).all(axis=-1))
