"""See: overlapping patches of a preview, and what a frozen backbone makes of each."""

from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits
from torch.nn import functional

from sempre.embeddings.embedding_file import Embedding
from sempre.embeddings.encoder import Encoder
from sempre.embeddings.extract import ExtractionOptions, extract
from sempre.embeddings.grid import Grid
from sempre.errors import InputError
from sempre.scan.preview import Preview


@dataclass(frozen=True)
class Patches:
    """A patch at each cell of `grid`, centred there, `vectors` float32 `[rows * columns, D]`, row by row."""

    grid: Grid
    vectors: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.grid.rows, self.grid.columns

    @property
    def centres(self) -> np.ndarray:
        """Centres (y, x in px) float64 `[rows * columns, 2]`; the last may lie beyond the preview's border."""
        places = np.stack(np.meshgrid(*map(np.arange, self.shape), indexing="ij"), axis=-1).reshape(-1, 2)
        return (places + 0.5) * self.grid.cell

    def to_map(self, values: np.ndarray) -> np.ndarray:
        """Values `[rows * columns]` at every px, float32 `[H, W]`, bilinear between the patches' centres."""
        return self.grid.to_pixels(values.reshape(self.shape))


@dataclass(kw_only=True)
class PatchOptions:
    scales: list[int] = field(default_factory=lambda: [32, 64])  # sides of the patches that are seen together, px
    stride: int = 16  # px from patch to patch
    components: int = 50  # principal components that are kept of a patch's features
    whiten: bool = False  # whether every component counts the same


def see(preview: Preview, encoder: Encoder, options: PatchOptions, embeddings: str = "runs/embeddings") -> Patches:
    """The patches of a preview: means and deviations of the backbone's cells in each, on their principal components.

    The network sees the preview once, as a whole, and a patch is what it makes of the patch's px in their surroundings;
    patches that overlap share the work. Cells are kept in the folder `embeddings` by content, so that only the first
    look at a preview costs.

    Raises:
        InputError: for scales, a stride or components that cannot be.
    """
    check(options, preview.pixels.shape)
    extraction = ExtractionOptions(layer=encoder.layer, workers=0, embeddings=embeddings, precision="float32")
    with extract(preview, encoder, extraction) as stored:
        embedding = stored[preview.sha256s[0]]
    grid = Grid(*preview.pixels.shape, *preview.pixels.shape, options.stride)
    described = np.concatenate([describe(embedding, grid, scale) for scale in options.scales], axis=1)
    return Patches(grid, reduce(described, options.components, options.whiten))


def describe(embedding: Embedding, grid: Grid, scale: int) -> np.ndarray:
    """Mean and deviation of the cells within `scale` px about each cell of `grid`, float32 `[rows * columns, 2 C]`.

    Beyond the preview's border cells are mirrored. A window of fewer px than a cell holds the cell it lies in.
    """
    cells = torch.from_numpy(embedding.cells).permute(2, 0, 1)[None]
    side = max(1, round(scale / embedding.grid.cell))
    margin = min(side, *(length - 1 for length in cells.shape[2:])) if min(cells.shape[2:]) > 1 else 0
    padded = functional.pad(cells, (margin,) * 4, "reflect") if margin else cells
    side = min(side, *padded.shape[2:])
    mean = functional.avg_pool2d(padded, side, stride=1)
    square = functional.avg_pool2d(padded**2, side, stride=1)
    both = torch.cat([mean, (square - mean**2).clamp(min=0).sqrt()], dim=1)
    # Where the patches' centres lie among the windows, in px of the first window's middle.
    middle = (side / 2 - margin) * embedding.grid.cell
    rows, columns = (
        ((np.arange(count) + 0.5) * grid.cell - middle) / embedding.grid.cell / max(length - 1, 1) * 2 - 1
        for count, length in zip((grid.rows, grid.columns), both.shape[2:], strict=True)
    )
    places = torch.from_numpy(np.stack(np.meshgrid(columns, rows), axis=-1).astype(np.float32))[None]
    sampled = functional.grid_sample(both, places, mode="bilinear", padding_mode="border", align_corners=True)
    return sampled[0].flatten(1).T.numpy()


def reduce(vectors: np.ndarray, components: int, whiten: bool = False) -> np.ndarray:
    """Vectors `[N, D]` on their first principal components, float32 `[N, P]`; P is `components` or as many as there are.

    Dimensions count by their own deviation, so that loud channels do not drown the others.
    """
    vectors = vectors.astype(np.float64)
    spread = vectors.std(axis=0)
    vectors = (vectors - vectors.mean(axis=0))[:, spread > 1e-6] / spread[spread > 1e-6]
    if not vectors.shape[1]:
        return np.zeros((len(vectors), 1), np.float32)
    components = min(components, *vectors.shape)
    with threadpool_limits(1):
        return PCA(components, whiten=whiten, svd_solver="covariance_eigh").fit_transform(vectors).astype(np.float32)


def check(options: PatchOptions, shape: tuple[int, int]) -> None:
    """Raises: InputError for options that cannot be, or patches larger than a preview of `shape` (H, W)."""
    if not options.scales or min(options.scales) < 8 or max(options.scales) > min(shape):
        raise InputError(f"scales={options.scales} are no patches of a preview of {shape[0]}x{shape[1]} px")
    if not 4 <= options.stride <= min(options.scales):
        raise InputError(f"stride={options.stride} leaves gaps or is too fine: take 4 to {min(options.scales)} px")
    if options.components < 1:
        raise InputError(f"components={options.components} leaves nothing of the features: take 1 or more")
