"""Windows of any size over a micrograph's cells: what a backbone makes of overlapping patches, from one look."""

import numpy as np
import torch
from torch.nn import functional

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
    cells = torch.from_numpy(embedding.cells).permute(2, 0, 1)[None]
    cell = embedding.grid.cell
    count = max(1, min(round(side / cell), *cells.shape[2:]))
    mean = _means(cells, count)
    deviation = (_means(cells**2, count) - mean**2).clamp(min=0).sqrt()
    windows = torch.cat([mean, deviation], dim=1)[0].numpy()
    rows, columns = (
        _first_cells(patches, grid.cell, length, cell, count, margin, inset)
        for patches, length in ((grid.rows, grid.height), (grid.columns, grid.width))
    )
    return windows[:, rows][:, :, columns].reshape(len(windows), -1).T


def _means(cells: torch.Tensor, count: int) -> torch.Tensor:
    """Means of `count` x `count` cells: by columns, then by rows, which is quicker than all at once."""
    return functional.avg_pool2d(functional.avg_pool2d(cells, (count, 1), stride=1), (1, count), stride=1)


def _first_cells(patches: int, stride: int, length: int, cell: int, count: int, margin: int, inset: int) -> np.ndarray:
    """Of the windows along an axis the first of their `count` cells, `[patches]`."""
    nearest = np.rint((margin + (np.arange(patches) + 0.5) * stride) / cell - count / 2).astype(int)
    lowest, highest = -(-(margin + inset) // cell), (margin + length - inset) // cell - count
    return np.clip(nearest, lowest, max(lowest, highest))
