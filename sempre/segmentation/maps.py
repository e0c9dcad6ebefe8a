"""From a micrograph to instances with a dense segmenter: maps of overlapping tiles, blended, decoded once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from sempre.errors import InputError
from sempre.images.resize import resize, resize_rows
from sempre.segmentation.decode import NOBODY, ROWS, Decoding, areas_and_sums, believed, decode, deepest, renumber
from sempre.segmentation.detections import Box
from sempre.segmentation.shapes import solidity
from sempre.segmentation.tiling import starts

# Takes an image float32 `[h, w]` in [0, 1] whose sides are multiples of `MULTIPLE`; gives the probability of foreground
# and the depth, float32 `[2, h / 2, w / 2]`.
Network = Callable[[np.ndarray], np.ndarray]
STRIDE = 2  # px of what the network sees for each px of its maps
MULTIPLE = 32  # px, the network's total stride


SCALES = (0.125, 0.25, 0.5, 1.0, 2.0)  # a particle from 6 px to half of the field is 20 to 160 px wide at one of them
LEAST_SIDE = 48  # px that the shorter side of a micrograph has at the scales that are tried
MEASURED = 100  # of the particles, the largest, whose solidity tells how well a scale suits them
# A micrograph is enlarged to more px than this only if its particles are still narrow then, px.
MOST_PIXELS, WIDE = 4 << 20, 60
AGREEMENT = 8  # power of the agreement of two scales' depths, by which the other one weighs
LEAST_WEIGHT = 0.01  # that is worth a look


@dataclass(frozen=True)
class DenseSettings:
    """How maps are made and read.

    The micrograph is seen at each of `scales` times its size, and what is best supported counts. `tile` and `overlap`
    are in px of what the network sees, multiples of 32.
    """

    decoding: Decoding = field(default_factory=Decoding)
    scales: tuple[float, ...] = SCALES
    tile: int = 1024
    overlap: int = 128
    flips: bool = False  # average over the micrograph's mirror images, at the scale that counts


def segment_dense(pixels: np.ndarray, network: Network, settings: DenseSettings) -> tuple[np.ndarray, np.ndarray]:
    """The instances of a normalised micrograph.

    Args:
        pixels: float32 `[H, W]` in [0, 1].

    Returns:
        A label image int32 `[H, W]` with ids 1 to N, and each particle's score `[N]`, its mean probability.
    """
    maps = supported_maps(pixels, network, settings)
    return instances(maps, pixels.shape, settings.decoding)


def supported_maps(pixels: np.ndarray, network: Network, settings: DenseSettings) -> np.ndarray:
    """Maps `[2, h, w]` of a normalised micrograph `[H, W]` at the scale that supports them best, and what the scales
    next to it say.

    Raises:
        InputError: for a network whose maps are no numbers.
    """
    best, highest, chosen, width = np.zeros(0), -1.0, 1.0, 0.0  # the first scale takes its place
    previous, beside = None, []
    for scale in scales_of(pixels.shape, settings.scales):
        if pixels.size * scale**2 > MOST_PIXELS and scale > 1 and width * scale / chosen > WIDE:
            continue
        maps = predict_maps(resize(pixels, scale), network, settings)
        if not np.isfinite(maps).all():
            raise InputError("the model answers with what are no numbers: copy its bundle again, or export it again")
        supported, seen = support(maps, settings.decoding)
        if supported > highest:
            best, highest, chosen, width = maps, supported, scale, seen
            beside = [] if previous is None else [previous]
        elif previous is best:
            beside.append(maps)
        previous = maps
    if settings.flips:
        image = resize(pixels, chosen)
        for axes in ((-1,), (-2,), (-2, -1)):
            best = best + np.flip(predict_maps(np.flip(image, axes), network, settings), axes)
        best /= np.float32(4)
    return join_scales(best, beside)


def join_scales(maps: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Maps `[2, h, w]` averaged with others of the same micrograph at any size, of which each weighs as it agrees.

    An agreement is the Dice of both depths. What the network makes of a micrograph at twice or half the size is nearly
    an independent look at it, and costs nothing, since it was taken to choose the scale.
    """
    shape = maps.shape[1:]
    parts = [slice(start, min(start + ROWS, shape[0])) for start in range(0, shape[0], ROWS)]
    joined, total = maps.copy(), np.float32(1)
    for other in others:
        shared = both = 0.0
        for rows in parts:
            depth = resize_rows(other[1], shape, rows)
            shared += float(np.minimum(maps[1, rows], depth).sum())
            both += float(maps[1, rows].sum() + depth.sum())
        weight = np.float32(max(2 * shared / both, 0) ** AGREEMENT) if both > 0 else np.float32(0)
        if weight < LEAST_WEIGHT:
            continue
        for rows in parts:
            joined[:, rows] += weight * np.stack([resize_rows(channel, shape, rows) for channel in other])
        total += weight
    joined /= total
    return joined


def scales_of(shape: tuple[int, int], scales: Sequence[float]) -> list[float]:
    """The scales, of those given, at which a micrograph of `shape` shows enough; the largest if none does."""
    worth = [scale for scale in scales if min(shape) * scale >= LEAST_SIDE]
    return worth or [max(scales)]


def count_looks(shape: tuple[int, int], settings: DenseSettings) -> int:
    """How often the network looks at a micrograph `[H, W]`, at most: a scale may be left out as it goes."""
    counts = []
    for scale in scales_of(shape, settings.scales):
        height, width = (-(-max(1, round(side * scale)) // MULTIPLE) * MULTIPLE for side in shape)
        counts.append(sum(1 for _ in tile_boxes_on_grid((height, width), settings.tile, settings.overlap)))
    return sum(counts) + (3 * max(counts) if settings.flips else 0)


def support(maps: np.ndarray, decoding: Decoding) -> tuple[float, float]:
    """How well maps `[2, h, w]` agree with the instances that they show, from 0 to 1; and how wide these are seen, px.

    Support is a product of three.

    - the Dice that the probabilities expect of their own foreground;
    - how deep each particle is seen to be: one too large for the network has no sure middle, and one that is too
      small has none at all;
    - how solid each is: particles are convex on the whole, and fragments of them are not.

    Particles count by their area.
    """
    probability, depth = maps
    foreground = probability > decoding.foreground
    if not foreground.any():
        return 0.0, 0.0
    dice = 2 * probability[foreground].sum() / (probability.sum() + foreground.sum())
    labels = decode(probability, depth, replace(decoding, least_depth=0.0))  # shallow parts tell of a wrong scale
    areas = areas_and_sums(labels, probability, int(labels.max()) + 1)[0][1:]
    depths = np.minimum(deepest(labels, depth, len(areas) + 1)[1:], 1)
    boxes = ndimage.find_objects(labels)
    largest = np.argsort(-areas, kind="stable")[:MEASURED]
    solidities = [solidity(labels[boxes[index]] == index + 1) for index in largest]
    solid = np.average(solidities, weights=areas[largest])
    width = STRIDE * np.average(np.sqrt(4 / np.pi * areas), weights=areas)
    return float(dice * np.average(depths, weights=areas) * solid), float(width)


def instances(maps: np.ndarray, shape: tuple[int, int], decoding: Decoding) -> tuple[np.ndarray, np.ndarray]:
    """The label image `[H, W]` of `shape`, and the scores `[N]`, that maps `[2, h, w]` of a whole micrograph show."""
    probability, depth = maps
    labels = believed(decode(probability, depth, decoding), probability, depth, decoding)
    return enlarge(labels, probability, shape, decoding)


def predict_maps(image: np.ndarray, network: Network, settings: DenseSettings) -> np.ndarray:
    """Maps float32 `[2, h, w]` of a whole image `[H, W]`, h and w the halves of its sides, rounded up.

    Tiles overlap, and where they do their maps are averaged with weights that fall to nothing at a tile's border: so
    no seam is left that the decoding could take for an outline.
    """
    shape = tuple(side + -side % MULTIPLE for side in image.shape)
    boxes = list(tile_boxes_on_grid(shape, settings.tile, settings.overlap))
    used = tuple(-(-side // STRIDE) for side in image.shape)
    if len(boxes) == 1:
        return network(cut(image, boxes[0]))[:, : used[0], : used[1]]
    maps = np.zeros((2, *(side // STRIDE for side in shape)), np.float32)
    for box in boxes:
        x0, y0, x1, y1 = (side // STRIDE for side in box)
        weight = np.outer(*(ramp(length, settings.overlap // STRIDE) for length in (y1 - y0, x1 - x0)))
        maps[:, y0:y1, x0:x1] += weight * network(cut(image, box))
    # The weights' sum is that of the rows' times that of the columns', as the boxes are rows times columns.
    for axis, spans in ((1, {box[1::2] for box in boxes}), (2, {box[::2] for box in boxes})):
        total = np.zeros(maps.shape[axis], np.float32)
        for start, end in spans:
            total[start // STRIDE : end // STRIDE] += ramp((end - start) // STRIDE, settings.overlap // STRIDE)
        maps /= np.expand_dims(total, 0 if axis == 2 else 1)
    return maps[:, : used[0], : used[1]]


def cut(image: np.ndarray, box: Box) -> np.ndarray:
    """The px of a box, continued by their mirror image where it reaches beyond `[H, W]` on the right or below."""
    x0, y0, x1, y1 = box
    part = image[y0:y1, x0:x1]
    beyond = [(0, length - there) for length, there in zip((y1 - y0, x1 - x0), part.shape, strict=True)]
    return np.ascontiguousarray(np.pad(part, beyond, mode="symmetric") if any(map(max, beyond)) else part)


def tile_boxes_on_grid(shape: tuple[int, int], tile: int, overlap: int) -> Iterator[Box]:
    """Boxes of equal size that cover `shape` and overlap by at least `overlap` px: as few as can be of `tile` px at
    most, and then as small as can be. Their corners lie on multiples of 32 px, as the network's cells do."""
    rows, columns = (_spans(side // MULTIPLE, tile // MULTIPLE, overlap // MULTIPLE) for side in shape)
    for top, bottom in rows:
        for left, right in columns:
            yield left, top, right, bottom


def _spans(cells: int, most: int, overlap: int) -> list[tuple[int, int]]:
    """The first px, and that after the last, of spans of at most `most` cells that cover `cells`."""
    count = len(starts(cells, most, overlap))
    length = -(-(cells + (count - 1) * overlap) // count)
    first = [0] if count == 1 else starts(cells, length, overlap)
    return [(start * MULTIPLE, (start + length) * MULTIPLE) for start in first]


def ramp(length: int, overlap: int) -> np.ndarray:
    """Weights `[length]` that rise from near 0 to 1 over `overlap` px at both ends."""
    from_border = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return np.minimum(from_border / max(overlap, 1), 1).astype(np.float32)


def enlarge(
    labels: np.ndarray, probability: np.ndarray, shape: tuple[int, int], decoding: Decoding
) -> tuple[np.ndarray, np.ndarray]:
    """Labels `[h, w]` of the maps at the micrograph's resolution, and the particles' scores.

    Outlines lie where the interpolated probability passes the threshold, not on the maps' coarser pixels. What is
    `NOBODY`'s has a say in where particles end, and is ground then.
    """
    around = np.where(ndimage.minimum_filter(labels, 3) < 0, NOBODY, ndimage.maximum_filter(labels, 3))
    grown = np.where(labels != 0, labels, around)
    count = int(labels.max(initial=0)) + 1
    large, areas, sums = np.empty(shape, np.int32), np.zeros(count, np.int64), np.zeros(count)
    for start in range(0, shape[0], ROWS):  # a few rows at a time: all between maps and labels is gone again
        rows = slice(start, min(start + ROWS, shape[0]))
        fine = resize_rows(probability, shape, rows)
        large[rows] = np.where(fine > decoding.foreground, np.maximum(vote(grown, shape, rows), 0), 0)
        seen, summed = areas_and_sums(large[rows], fine, count)
        areas += seen
        sums += summed
    kept = areas >= decoding.smallest
    kept[0] = False
    renumber(large, np.where(kept, np.cumsum(kept), 0))
    return large, (sums[kept] / areas[kept]).astype(np.float32)


def vote(labels: np.ndarray, shape: tuple[int, int], rows: slice) -> np.ndarray:
    """Rows of labels `[h, w]` at `shape`, each pixel that of the largest bilinear weight: borders without the coarse
    steps."""
    (top, bottom, down), (left, right, across) = (
        _neighbours(small, side) for small, side in zip(labels.shape, shape, strict=True)
    )
    top, bottom, down = top[rows], bottom[rows], down[rows]
    large = labels[top[:, None], left[None]]
    # Most pixels lie amid four of one label, which the coarse labels tell.
    around = labels[top[0] : bottom[-1] + 2]
    last = np.pad(around, [(0, 1), (0, 1)], mode="edge")
    mixed = (last[:-1, :-1] != last[1:, :-1]) | (last[:-1, :-1] != last[:-1, 1:]) | (last[:-1, :-1] != last[1:, 1:])
    y, x = np.nonzero(mixed[top[:, None] - top[0], left[None]])
    names = np.stack([labels[rows[y], columns[x]] for rows in (top, bottom) for columns in (left, right)])
    below, beside = down[y], across[x]
    weights = np.stack([(1 - below) * (1 - beside), (1 - below) * beside, below * (1 - beside), below * beside])
    weights[names == 0] = 0  # where the ground begins is the probability's to say
    votes = [(weights * (names == name)).sum(0) for name in names]
    large[y, x] = np.take_along_axis(names, np.argmax(votes, 0)[None], 0)[0]
    return large


def _neighbours(small: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each of `side` pixels the two of `small` pixels next to it, and how near the second one is, 0 to 1."""
    places = np.clip((np.arange(side) + 0.5) * small / side - 0.5, 0, small - 1)
    first = places.astype(np.intp)
    return first, np.minimum(first + 1, small - 1), places - first
