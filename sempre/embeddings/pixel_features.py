"""What is known of every px of a micrograph, for clustering: its grey value, and what a backbone says of its place."""

import numpy as np
from skimage.filters import gaussian

from sempre.embeddings.clusters import principal_components
from sempre.embeddings.embedding_file import Embeddings
from sempre.embeddings.tiles import TileSource, stitch


def grey_features(pixels: np.ndarray, smoothing: float = 1.0) -> np.ndarray:
    """Grey values of a micrograph uint8 `[h, w]`, smoothed by a Gaussian, as float32 `[h, w, 1]` of deviation 1.

    Values of a micrograph without contrast are 0.
    """
    grey = gaussian(pixels.astype(np.float32), smoothing) if smoothing else pixels.astype(np.float32)
    spread = grey.std()
    standard = (grey - grey.mean()) / spread if spread > 1e-6 else np.zeros_like(grey)
    return standard[..., None].astype(np.float32)


def token_features(
    tiles: TileSource,
    embeddings: Embeddings,
    index: int,
    components: int = 20,
    grey_weight: float = 1.0,
    smoothing: float = 1.0,
) -> np.ndarray:
    """A micrograph's features float32 `[h, w, P + 1]`: its cells' first principal components, and the grey value.

    The components are those of all cells of the micrograph, in units of the first one's deviation; the grey value has
    deviation `grey_weight`. P is `components`, or fewer where the cells do not suffice.
    """
    of_tiles = tiles.embeddings_of(embeddings, index)
    cells = np.concatenate([embedding.cells.reshape(-1, embeddings.width) for embedding in of_tiles])
    ends = np.cumsum([embedding.grid.cells for embedding in of_tiles])
    parts = np.split(principal_components(cells, components), ends[:-1])
    shaped = [
        part.reshape(embedding.grid.rows, embedding.grid.columns, -1)
        for part, embedding in zip(parts, of_tiles, strict=True)
    ]
    grey = grey_weight * grey_features(tiles.micrograph(index), smoothing)
    return np.concatenate([stitch(shaped, of_tiles, tiles.boxes[index]), grey], axis=-1)
