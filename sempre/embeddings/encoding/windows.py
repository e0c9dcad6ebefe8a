"""Windows of any size over a micrograph's cells: what a backbone makes of overlapping patches, from one look."""

import numpy as np
import torch
from torch import Tensor

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
    cells = torch.from_numpy(embedding.cells)
    cell = embedding.grid.cell
    count = max(1, min(round(side / cell), *cells.shape[:2]))
    rows, columns = (
        _first_cells(patches, grid.cell, length, cell, count, margin, inset)
        for patches, length in ((grid.rows, grid.height), (grid.columns, grid.width))
    )
    mean = _means(cells, rows, columns, count)
    deviation = (_means(cells**2, rows, columns, count) - mean**2).clamp(min=0).sqrt()
    return torch.cat([mean, deviation], dim=-1).flatten(0, 1).numpy()


def _means(cells: Tensor, rows: np.ndarray, columns: np.ndarray, count: int) -> Tensor:
    """Of cells `[h, w, C]` the means of the `count` x `count` that begin at each of `rows` and `columns`,
    `[rows, columns, C]`: down first, then across, and only where a window is."""
    down = torch.zeros(len(rows), *cells.shape[1:])
    across = torch.zeros(len(rows), len(columns), cells.shape[2])
    for k in range(count):
        down += cells[rows + k]
    for k in range(count):
        across += down[:, columns + k]
    return across / count**2


def _first_cells(patches: int, stride: int, length: int, cell: int, count: int, margin: int, inset: int) -> np.ndarray:
    """Of the windows along an axis the first of their `count` cells, `[patches]`."""
    nearest = np.rint((margin + (np.arange(patches) + 0.5) * stride) / cell - count / 2).astype(int)
    lowest, highest = -(-(margin + inset) // cell), (margin + length - inset) // cell - count
    return np.clip(nearest, lowest, max(lowest, highest))
