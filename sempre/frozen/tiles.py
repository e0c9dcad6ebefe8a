"""Large micrographs tile by tile, and windows of any size over their cells."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sempre.data.sources import Source
from sempre.errors import InputError
from sempre.frozen.embedding_file import Embedding, Embeddings
from sempre.frozen.encoder import Encoder, Grid
from sempre.frozen.extract import ExtractionOptions, extract, input_shape
from sempre.images.resize import resize_to
from sempre.segmentation.detections import Box
from sempre.segmentation.tiling import tile_boxes

OWN_SIZE = {"scale": 1.0, "size": 0, "pixel_size_nm": 0.0}  # options that leave a micrograph as it is


class TileSource:
    """The tiles of a source's micrographs, as micrographs to be embedded: what `FolderSource` is for whole ones.

    Micrographs are first brought to the size that `options` ask for. Those that are larger than a tile are cut into
    equal tiles of `tile` px that overlap by at least an eighth; the others are one tile. `boxes` are those of each
    micrograph (x0, y0, x1, y1, px, exclusive ends), `first` the position of its first tile, `shapes` the heights and
    widths in px that the micrographs have themselves.

    Raises:
        InputError: for a tile of less than 32 px; also as `input_shape`.
    """

    def __init__(self, source: Source, options: ExtractionOptions, tile: int):
        if tile < 32:
            raise InputError(f"tile={tile} is too small: take 32 px or more")
        self.source, self.options, self.path = source, options, Path(source.path)
        self._last: tuple[int, np.ndarray] | None = None
        self.shapes: dict[int, tuple[int, int]] = {}
        self.boxes: list[list[Box]] = []
        self.names, self.sha256s = [], []
        self._micrograph_of = []
        for index, (name, sha256) in enumerate(zip(source.names, source.sha256s, strict=True)):
            boxes = list(tile_boxes(self.micrograph(index).shape[:2], tile, tile // 8))
            self.boxes.append(boxes)
            self._micrograph_of += [(index, box) for box in boxes]
            self.names += [f"{name} at x={box[0]} y={box[1]}" for box in boxes]
            self.sha256s += [hashlib.sha256(f"{sha256} {box}".encode()).hexdigest() for box in boxes]
        self.first = np.cumsum([0, *(len(boxes) for boxes in self.boxes)])
        sizes = {name: getattr(options, name) for name in OWN_SIZE}
        self.preparation = source.preparation | sizes | {"tile": tile}

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> tuple[np.ndarray, None]:
        """A tile, uint8 `[h, w]` or `[h, w, 3]`, which has its size already and is not to be scaled again."""
        micrograph, (x0, y0, x1, y1) = self._micrograph_of[index]
        return np.ascontiguousarray(self.micrograph(micrograph)[y0:y1, x0:x1]), None

    def micrograph(self, index: int) -> np.ndarray:
        """A whole micrograph at the size that it is embedded at, uint8 `[h, w]` or `[h, w, 3]`."""
        if self._last is None or self._last[0] != index:  # its tiles are read one after the other
            pixels, pixel_size_nm = self.source.read(index)
            shape = input_shape(self.source.names[index], pixels.shape[:2], pixel_size_nm, self.options)
            self.shapes[index] = pixels.shape[:2]
            self._last = index, resize_to(pixels, shape)
        return self._last[1]

    def extract(self, encoder: Encoder) -> Embeddings:
        """The embeddings of all tiles, only those computed that are not yet in the file."""
        return extract(self, encoder, replace(self.options, **OWN_SIZE))

    def embeddings_of(self, embeddings: Embeddings, index: int) -> list[Embedding]:
        """The embeddings of a micrograph's tiles."""
        first = int(self.first[index])
        return [embeddings[self.sha256s[first + number]] for number in range(len(self.boxes[index]))]


def stitch(cells: Sequence[np.ndarray], grids: Sequence[Grid], boxes: Sequence[Box]) -> np.ndarray:
    """Values of tiles' cells `[rows, columns, D]` at every px of their micrograph, float32 `[h, w, D]`.

    `grids` say where in each tile its cells lie. Between cells values are interpolated; where tiles overlap, the mean
    is taken.
    """
    height, width = max(box[3] for box in boxes), max(box[2] for box in boxes)
    sums = np.zeros((height, width, cells[0].shape[-1]), np.float32)
    counts = np.zeros((height, width, 1), np.float32)
    for values, grid, (x0, y0, x1, y1) in zip(cells, grids, boxes, strict=True):
        for channel in range(values.shape[-1]):
            sums[y0:y1, x0:x1, channel] += grid.to_pixels(values[..., channel])
        counts[y0:y1, x0:x1] += 1
    return sums / counts


def describe_windows(embedding: Embedding, grid: Grid, side: int, margin: int, inset: int = 0) -> np.ndarray:
    """Mean and deviation of the cells in a window about each cell of `grid`, float32 `[rows * columns, 2 C]`.

    Args:
        embedding: of a micrograph that was continued by `margin` px on every side, at that size.
        grid: whose cells the windows are centred on, of the micrograph itself.
        side: of the windows, px; they hold a whole number of cells, at least one.
        inset: px that windows keep from the micrograph's border; those of patches nearer to it lie beside them.
    """
    cells, cell = embedding.cells, embedding.grid.cell
    count = max(1, min(round(side / cell), *cells.shape[:2]))
    rows, columns = (
        _first_cells(patches, grid.cell, length, cell, count, margin, inset)
        for patches, length in ((grid.rows, grid.height), (grid.columns, grid.width))
    )
    mean = _means(cells, rows, columns, count, lambda strip: strip.sum(0))
    squares = _means(cells, rows, columns, count, lambda strip: np.einsum("hwc,hwc->wc", strip, strip))
    deviation = np.sqrt(np.maximum(squares - mean**2, 0))
    return np.concatenate([mean, deviation], axis=-1).reshape(len(rows) * len(columns), -1)


def _means(
    cells: np.ndarray, rows: np.ndarray, columns: np.ndarray, count: int, add: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Means over windows of `count` cells a side from each of `rows` and `columns` on, `[rows, columns, C]`.

    `add` makes of a strip `[count, w, C]` its sum over the rows, `[w, C]`. Strips lie together in
    memory, and are summed ten times sooner than a matrix of zeros and ones multiplies all cells.
    """
    down = np.stack([add(cells[first : first + count]) for first in rows])
    return np.stack([down[:, first : first + count].sum(1) for first in columns], axis=1) / np.float32(count**2)


def _first_cells(patches: int, stride: int, length: int, cell: int, count: int, margin: int, inset: int) -> np.ndarray:
    """Of the windows along an axis the first of their `count` cells, `[patches]`."""
    nearest = np.rint((margin + (np.arange(patches) + 0.5) * stride) / cell - count / 2).astype(int)
    lowest, highest = -(-(margin + inset) // cell), (margin + length - inset) // cell - count
    return np.clip(nearest, lowest, max(lowest, highest))
