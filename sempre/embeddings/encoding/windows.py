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
    down, across = (
        _averages(first, count, length) for first, length in ((rows, cells.shape[0]), (columns, cells.shape[1]))
    )
    mean = _means(cells, down, across)
    deviation = (_means(cells**2, down, across) - mean**2).clamp(min=0).sqrt()
    return torch.cat([mean, deviation], dim=-1).flatten(0, 1).numpy()


def _means(cells: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Cells `[h, w, C]` averaged by `down` `[rows, h]` and `across` `[columns, w]`: `[rows, columns, C]`.

    Most of the products are with 0, and yet sooner done than windows are summed.
    """
    part = (down @ cells.flatten(1)).unflatten(1, cells.shape[1:])
    return across @ part


def _averages(first: np.ndarray, count: int, length: int) -> Tensor:
    """A matrix `[windows, length]` whose rows average the `count` cells from each of `first` on."""
    cells = torch.arange(length)[None] - torch.from_numpy(first)[:, None]
    return ((cells >= 0) & (cells < count)) / count


def _first_cells(patches: int, stride: int, length: int, cell: int, count: int, margin: int, inset: int) -> np.ndarray:
    """Of the windows along an axis the first of their `count` cells, `[patches]`."""
    nearest = np.rint((margin + (np.arange(patches) + 0.5) * stride) / cell - count / 2).astype(int)
    lowest, highest = -(-(margin + inset) // cell), (margin + length - inset) // cell - count
    return np.clip(nearest, lowest, max(lowest, highest))
