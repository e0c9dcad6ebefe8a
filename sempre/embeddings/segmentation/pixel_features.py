"""What is known of every px or patch of a micrograph, for clustering: its level, and what a backbone says of it."""

import numpy as np
from skimage.filters import gaussian

from sempre.embeddings.encoding.embedding_file import Embeddings
from sempre.embeddings.encoding.tiles import TileSource, stitch
from sempre.embeddings.segmentation.clusters import principal_components


def level_features(pixels: np.ndarray, smoothing: float = 1.0, patch: int = 0) -> np.ndarray:
    """Levels of a micrograph uint8 `[h, w]` or `[h, w, 3]` as float32 `[rows, columns, 1 or 3]` of deviation 1.

    They are those of every px, smoothed by a Gaussian, or with `patch` the means of squares of so many px. Each channel
    is centred and all are divided by one number, the root of the sum of their variances: hues count, and a grey
    micrograph of three equal channels has the distances of one. Levels of a micrograph without contrast are 0.
    """
    levels = np.atleast_3d(pixels).astype(np.float32)
    if patch:
        levels = patch_means(levels, patch)
    elif smoothing:
        levels = gaussian(levels, smoothing, channel_axis=-1)
    spread = np.sqrt(levels.var(axis=(0, 1), dtype=np.float64).sum())
    centred = levels - levels.mean(axis=(0, 1), dtype=np.float64)
    return (centred / spread if spread > 1e-6 else np.zeros_like(levels)).astype(np.float32)


def token_features(
    tiles: TileSource,
    embeddings: Embeddings,
    index: int,
    components: int = 20,
    grey_weight: float = 1.0,
    smoothing: float = 1.0,
    patch: int = 0,
) -> np.ndarray:
    """A micrograph's features float32 `[rows, columns, P + 1 or 3]`: its cells' first principal components, and levels.

    The components are those of all cells of the micrograph, in units of the first one's deviation; the levels have
    deviation `grey_weight`. P is `components`, or fewer where the cells do not suffice. Between cells the components
    are interpolated; with `patch` they are means of squares, as the levels are.
    """
    of_tiles = tiles.embeddings_of(embeddings, index)
    cells = np.concatenate([embedding.cells.reshape(-1, embeddings.width) for embedding in of_tiles])
    grids = [embedding.grid for embedding in of_tiles]
    ends = np.cumsum([grid.cells for grid in grids])
    parts = np.split(principal_components(cells, components), ends[:-1])
    shaped = [part.reshape(grid.rows, grid.columns, -1) for part, grid in zip(parts, grids, strict=True)]
    stitched = stitch(shaped, grids, tiles.boxes[index])
    levels = grey_weight * level_features(tiles.micrograph(index), smoothing, patch)
    return np.concatenate([patch_means(stitched, patch) if patch else stitched, levels], axis=-1)


def patch_means(values: np.ndarray, side: int) -> np.ndarray:
    """Means `[rows, columns, D]` of values `[h, w, D]` in squares of `side` px; the last ones may be cut off."""
    height, width = values.shape[:2]
    rows, columns = np.arange(0, height, side), np.arange(0, width, side)
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    heights, widths = np.minimum(side, height - rows), np.minimum(side, width - columns)
    return sums / (heights[:, None] * widths)[..., None].astype(values.dtype)


def patches_to_pixels(values: np.ndarray, side: int, shape: tuple[int, int]) -> np.ndarray:
    """Each px of an image of `shape` with the value `[rows, columns]` of the square of `side` px that it lies in."""
    return values.repeat(side, axis=0).repeat(side, axis=1)[: shape[0], : shape[1]]
