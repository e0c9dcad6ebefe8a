"""A plane parted among random sites: which is nearest to each pixel, how far, and how far the next."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sempre.images.synthetic.grounds.substrate import correlated_noise


@dataclass(frozen=True)
class Cells:
    """Of each pixel `[H, W]`: `nearest`, the number of its site; `distance` to it and `border`, how much farther the
    next site is, both in px. `sites` `[N, 2]` are x and y in px."""

    sites: np.ndarray
    nearest: np.ndarray
    distance: np.ndarray
    border: np.ndarray


def random_cells(shape: tuple[int, int], pitch: float, bent: float, random: np.random.Generator) -> Cells:
    """Cells of random sites about `pitch` px apart; `bent` is how far their borders wander, in units of the pitch."""
    height, width = shape
    columns, rows = int(np.ceil(width / pitch)) + 2, int(np.ceil(height / pitch)) + 2
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) - 0.5
    return cells_of(shape, (grid + random.uniform(-0.5, 0.5, grid.shape)) * pitch, bent * pitch, 0.7 * pitch, random)


def cells_of(
    shape: tuple[int, int], sites: np.ndarray, bent: float, smooth: float, random: np.random.Generator
) -> Cells:
    """The cells of `sites` `[N, 2]` (x, y in px), whose borders wander by about `bent` px over `smooth` px."""
    height, width = shape
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    if bent:
        x = x + np.float32(bent) * correlated_noise(shape, 1.2, smooth, random)
        y = y + np.float32(bent) * correlated_noise(shape, 1.2, smooth, random)
    points = np.stack(np.broadcast_arrays(x, y), axis=-1)
    distances, nearest = cKDTree(sites).query(points, k=2)
    distance = distances[..., 0].astype(np.float32)
    return Cells(sites, nearest[..., 0], distance, distances[..., 1].astype(np.float32) - distance)
