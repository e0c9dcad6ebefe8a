"""Windows of any size over a micrograph's cells: what a backbone makes of overlapping patches, from one look."""

from collections.abc import Callable

import numpy as np

from sempre.embeddings.encoding.embedding_file import Embedding
from sempre.embeddings.encoding.grid import Grid


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
