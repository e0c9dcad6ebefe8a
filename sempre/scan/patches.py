"""See: overlapping patches of a preview, and what a frozen backbone makes of each."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated

import numpy as np
from scipy import ndimage
from sklearn.decomposition import PCA
from threadpoolctl import ThreadpoolController

from sempre.errors import InputError
from sempre.frozen.encoder import Encoder, Grid
from sempre.frozen.extract import ExtractionOptions, extract
from sempre.frozen.tiles import describe_windows
from sempre.ranges import Count, CountOrZero, NotEmpty, Range, check_ranges
from sempre.scan.preview import Preview


def one_thread() -> AbstractContextManager:
    """A context in which NumPy, SciPy and scikit-learn compute on one thread.

    `threadpool_limits` looks through all that the process has loaded at each call, which takes 9 ms, a tenth of the
    time in which a click is to be answered; here that is done once, at
    the first call, so that whoever calls has imported by then what is to be limited.
    """
    return _libraries().limit(limits=1)


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


Sides = Annotated[list[int], NotEmpty(), Range(8)]


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
    scales: Sides = field(default_factory=lambda: [24, 48])  # sides of the patches at each place, px
    stride: Annotated[int, Range(4)] = 12  # distance between patches, px
    surround: CountOrZero = 64  # width of the surroundings subtracted from a patch's features, px; 0: none
    components: Count = 50  # principal components kept of a patch's features
    whiten: bool = False  # scale all components to the same variance


def see(preview: Preview, encoder: Encoder, options: PatchOptions, embeddings: str = "runs/embeddings") -> Patches:
    """The patches of a preview: what the backbone's cells in each have in common, on their principal components.

    The network sees the preview once, as a whole, and a patch is what it makes of the patch's px in their surroundings;
    patches that overlap share the work. The preview is continued by its mirror image, for a network sees its input's
    border, and borders are rare; so are the twins of a mirrored lattice, so that windows keep a little from it.
    Thickness, light and contamination change slowly over a sample and would make its corners strange: what a patch
    shares with its surroundings is taken off. Of several scales larger patches count less, by their area: what is small
    is lost in them. Cells are kept in the folder `embeddings` by content, so that only the first look costs.

    Raises:
        InputError: for scales, a stride or components that cannot be.
    """
    shape = preview.pixels.shape
    check(options, shape)
    margin = min(-(-max(options.scales) // encoder.cell) * encoder.cell, min(shape) - 1)
    continued = replace(preview, pixels=np.pad(preview.pixels, margin, "reflect"))
    extraction = ExtractionOptions(layer=encoder.layer, workers=0, embeddings=embeddings, precision="float32")
    with extract(continued, encoder, extraction) as stored:
        embedding = stored[continued.sha256s[0]]
    height, width = shape
    grid = Grid(height, width, height, width, options.stride)
    described = []
    for side in options.scales:
        windows = describe_windows(embedding, grid, side, margin, inset=min(options.scales) // 2)
        if options.surround:
            windows = stand_out(windows, (grid.rows, grid.columns), options.surround / options.stride)
        described.append(standardised(windows) * (min(options.scales) / side) ** 2)
    return Patches(grid, reduce(np.concatenate(described, axis=1), options.components, options.whiten))


def stand_out(vectors: np.ndarray, shape: tuple[int, int], reach: float) -> np.ndarray:
    """Vectors `[rows * columns, D]` of a grid of `shape` less their Gaussian mean over about `reach` patches."""
    # Two small matrices blur a grid sooner than filters go along it.
    down, across = (
        ndimage.gaussian_filter1d(np.eye(length, dtype=vectors.dtype), reach, axis=0, mode="reflect", truncate=3)
        for length in shape
    )
    with one_thread():
        around = across @ (down @ vectors.reshape(shape[0], -1)).reshape(*shape, -1)
    return vectors - around.reshape(vectors.shape)


def standardised(vectors: np.ndarray) -> np.ndarray:
    """Vectors `[N, D]` with mean 0 and deviation 1 in every dimension, so that loud channels drown no others; without
    the dimensions in which all agree."""
    vectors = vectors.astype(np.float64)
    spread = vectors.std(axis=0)
    return (vectors - vectors.mean(axis=0))[:, spread > 1e-6] / spread[spread > 1e-6]


def reduce(vectors: np.ndarray, components: int, whiten: bool = False) -> np.ndarray:
    """Vectors `[N, D]` on their first principal components, float32 `[N, P]`; P is `components` or what there is."""
    if not vectors.shape[1]:
        return np.zeros((len(vectors), 1), np.float32)
    components = min(components, *vectors.shape)
    with one_thread():
        return PCA(components, whiten=whiten, svd_solver="covariance_eigh").fit_transform(vectors).astype(np.float32)


def check(options: PatchOptions, shape: tuple[int, int]) -> None:
    """Raises: InputError for options that cannot be, or patches larger than a preview of `shape` (H, W)."""
    check_ranges(options)
    if max(options.scales) > min(shape):
        raise InputError(f"scales={options.scales} are no patches of a preview of {shape[0]}x{shape[1]} px")
    if options.stride > min(options.scales):
        raise InputError(f"stride={options.stride} leaves gaps: take 4 to {min(options.scales)} px")
