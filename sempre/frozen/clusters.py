"""Clusters of embeddings, of px or patches, and which of them are foreground."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.filters import gaussian
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    pairwise_distances_argmin,
    silhouette_score,
)
from threadpoolctl import threadpool_limits

from sempre.data.samplers import ORDER, generator
from sempre.errors import InputError
from sempre.frozen.embedding_file import Embeddings
from sempre.frozen.prototypes import Clicks
from sempre.frozen.tasks import separation
from sempre.frozen.tiles import TileSource, stitch
from sempre.metrics import iou
from sempre.pretraining.collapse import rank_me
from sempre.ranges import NotEmpty, OneOf

METHODS = ("kmeans", "agglomerative")
Methods = Annotated[list[str], OneOf(*METHODS), NotEmpty()]
STARTS = 10  # of K-means, the best is kept
SILHOUETTE_POINTS = 5000  # of more, so many are drawn
LINKED = 10_000  # embeddings whose distances to each other fit into memory, 400 MB
FITTED_PIXELS = 20_000  # of a micrograph's px or patches, so many are drawn to find the clusters


def cluster(embeddings: np.ndarray, k: int, method: str = "kmeans", seed: int = 0) -> np.ndarray:
    """The cluster, int64 `[N]` from 0 on, of each embedding `[N, D]`.

    `kmeans` is Lloyd's algorithm from ten k-means++ starts, `agglomerative` Ward's method (both scikit-learn's). That
    holds all distances in memory, so of more than 10,000 embeddings so many are drawn, and the others belong to the
    cluster with the nearest mean. With fewer embeddings, or fewer different ones, than `k` there are as many
    clusters as these. The result is a function of the seed, not of the number of threads.

    Raises:
        InputError: for a k below 1 or an unknown method.
    """
    if k < 1:
        raise InputError(f"{k} clusters cannot be made: take 1 or more")
    if method not in METHODS:
        raise InputError(f"method={method} is unknown: choose {' or '.join(METHODS)}")
    if len(embeddings) < 2:
        return np.zeros(len(embeddings), np.int64)
    k = min(k, len(embeddings))
    if method == "kmeans":
        return _fit_kmeans(embeddings, k, seed).labels_.astype(np.int64)
    drawn = np.sort(generator(seed, ORDER).permutation(len(embeddings))[:LINKED])
    found = AgglomerativeClustering(k).fit_predict(embeddings[drawn])
    means = np.stack([embeddings[drawn][found == number].mean(axis=0) for number in range(k)])
    clusters = pairwise_distances_argmin(embeddings, means)
    clusters[drawn] = found
    return clusters.astype(np.int64)


def numbered_alike(clusters: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Clusters `[N]` renumbered so that as many points as can be have the number that they have in `reference` `[N]`.

    What finds no partner there gets the numbers that are left.
    """
    size = 1 + max(clusters.max(initial=-1), reference.max(initial=-1))
    shared = np.zeros((size, size), np.int64)
    np.add.at(shared, (clusters, reference), 1)
    return linear_sum_assignment(-shared)[1][clusters]


def cluster_by_all(embeddings: np.ndarray, k: int, methods: Sequence[str], seed: int = 0) -> dict[str, np.ndarray]:
    """Clusters `[N]` of embeddings `[N, D]` by each of the `METHODS` named.

    Their numbers are those of the first method's clusters that they are most like.

    Raises:
        InputError: as `cluster`.
    """
    first, *others = (cluster(embeddings, k, method, seed) for method in methods)
    return dict(zip(methods, (first, *(numbered_alike(numbers, first) for numbers in others)), strict=True))


def centrality(embeddings: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Distance `[N]` of each of the embeddings `[N, D]` to the mean of its cluster: the smallest are typical of it."""
    means = {number: embeddings[clusters == number].mean(axis=0) for number in np.unique(clusters)}
    return np.linalg.norm(embeddings - np.stack([means[number] for number in clusters]), axis=1)


def cluster_figures(
    embeddings: np.ndarray, clusters: Mapping[str, np.ndarray], labels: np.ndarray, seed: int = 0
) -> dict:
    """How well embeddings `[N, D]` fall into groups.

    Args:
        clusters: `[N]`, by each method's name.
        labels: `[N]` from 0 on, -1 for what has none.

    Returns:
        `rank_me`, and by method `silhouette` and `separation` of the clusters. Where there are two labels or more,
        besides the `separation` of the labels, and by method the clusters' `agreement` with them.
    """
    known = labels >= 0
    labelled = len(np.unique(labels[known])) > 1
    figures: dict = {"rank_me": rank_me(torch.from_numpy(embeddings))}
    if labelled:
        figures["separation"] = separation(embeddings[known], labels[known])
    for method, numbers in clusters.items():
        figures[method] = {
            "silhouette": silhouette(embeddings, numbers, seed),
            "separation": separation(embeddings, numbers),
            **(agreement(numbers[known], labels[known]) if labelled else {}),
        }
    return figures


def agreement(clusters: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Adjusted Rand index `ari` and normalised mutual information `nmi` of two partitions, `[N]` each.

    ARI (Hubert and Arabie, 1985) is 1 for equal partitions and 0 on average for random ones; NMI divides by the mean of
    the two entropies. One cluster against one class counts as equal: both are 1; one against several says nothing: both
    are 0. Without any points both are nan.
    """
    if not len(labels):
        return {"ari": float("nan"), "nmi": float("nan")}
    return {
        "ari": float(adjusted_rand_score(labels, clusters)),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
    }


def silhouette(embeddings: np.ndarray, clusters: np.ndarray, seed: int = 0) -> float:
    """Mean silhouette, -1 to 1, of embeddings `[N, D]` in clusters `[N]`, by Euclidean distance (Rousseeuw, 1987).

    A point alone in its cluster counts 0. Of more than 5000 points so many are drawn, seeded. nan where it is not
    defined: fewer than two clusters, or as many as points.
    """
    if len(embeddings) > SILHOUETTE_POINTS:
        drawn = np.sort(generator(seed, ORDER).permutation(len(embeddings))[:SILHOUETTE_POINTS])
        embeddings, clusters = embeddings[drawn], clusters[drawn]
    if not 2 <= len(np.unique(clusters)) < len(clusters):
        return float("nan")
    return float(silhouette_score(embeddings, clusters))


def principal_components(cells: np.ndarray, components: int, seed: int = 0) -> np.ndarray:
    """Cells `[N, C]` on their first principal components `[N, P]`, in units of the first one's deviation.

    P is `components`, or fewer where cells or channels do not suffice. Equal cells give zeros.
    """
    components = min(components, *cells.shape)
    cells = cells.astype(np.float64)
    if np.ptp(cells, axis=0).max() == 0:
        return np.zeros((len(cells), components), np.float32)
    with threadpool_limits(1):
        projected = PCA(components, svd_solver="full").fit_transform(cells)
    return (projected / projected[:, 0].std()).astype(np.float32)


def cluster_image(features: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """The cluster, int64 `[h, w]`, of every px or patch of features `[h, w, D]`, by K-means.

    The clusters' means are found on at most 20,000 of them, drawn under the seed.

    Raises:
        InputError: for a k below 1.
    """
    if k < 1:
        raise InputError(f"{k} clusters cannot be made: take 1 or more")
    pixels = features.reshape(-1, features.shape[-1])
    drawn = pixels[np.sort(generator(seed, ORDER).permutation(len(pixels))[:FITTED_PIXELS])]
    found = _fit_kmeans(drawn, min(k, len(drawn)), seed)
    with threadpool_limits(1):
        return found.predict(pixels).astype(np.int64).reshape(features.shape[:2])


def _fit_kmeans(points: np.ndarray, k: int, seed: int) -> KMeans:
    # In one thread, for the order in which several add up their sums differs from run to run.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than clusters
        return KMeans(k, n_init=STARTS, random_state=seed).fit(points)


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


RULES = ("border", "bright")


def ranked(clusters: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Clusters `[h, w]` renamed to 0, 1, …, from the darkest mean of the grey values `[h, w]` to the brightest, int64.

    K-means names its clusters by chance; ranks mean the same in every micrograph of one kind.
    """
    names, places = np.unique(clusters, return_inverse=True)
    places = places.ravel()
    means = np.bincount(places, grey.ravel()) / np.bincount(places)
    ranks = np.empty(len(names), np.int64)
    ranks[np.argsort(means, kind="stable")] = np.arange(len(names))
    return ranks[places].reshape(clusters.shape)


def chosen_by_rule(clusters: np.ndarray, grey: np.ndarray, rule: str = "border") -> list[int]:
    """The clusters of `clusters` `[h, w]` that are taken for particles; `grey` are the values `[h, w]`.

    `border`: with k clusters, those that hold less than 1/k of the image's border px; for two clusters the side that
    touches the border less, as `otsu_watershed` chooses. `bright`: those whose mean grey value is above the middle
    between the darkest cluster's and the brightest one's. A single cluster is background.

    Raises:
        InputError: for an unknown rule.
    """
    if rule not in RULES:
        raise InputError(f"rule={rule} is unknown: choose {' or '.join(RULES)}")
    names = np.unique(clusters).tolist()
    if len(names) == 1:
        return []
    if rule == "border":
        border = np.concatenate([clusters[0], clusters[-1], clusters[1:-1, 0], clusters[1:-1, -1]])
        return [name for name in names if np.mean(border == name) < 1 / len(names)]
    means = np.array([grey[clusters == name].mean() for name in names])
    return [name for name, mean in zip(names, means, strict=True) if mean > (means.min() + means.max()) / 2]


def chosen_by_clicks(clusters: np.ndarray, clicks: Clicks) -> list[int]:
    """The clusters of `clusters` `[h, w]` with more positive than negative clicks.

    Raises:
        InputError: for a click outside.
    """
    counts: dict[int, int] = {}
    for points, sign in ((clicks.positive, 1), (clicks.negative, -1)):
        for y, x in points:
            if not (0 <= y < clusters.shape[0] and 0 <= x < clusters.shape[1]):
                shape = f"{clusters.shape[0]}x{clusters.shape[1]}"
                raise InputError(f"the point y={y:g} x={x:g} is outside the micrograph of {shape} px")
            name = int(clusters[int(y), int(x)])
            counts[name] = counts.get(name, 0) + sign
    return sorted(name for name, count in counts.items() if count > 0)


def most_chosen(choices: Sequence[Sequence[int]]) -> list[int]:
    """The clusters that are in more than half of the choices: what a micrograph without clicks is given."""
    names = sorted({name for choice in choices for name in choice})
    return [name for name in names if 2 * sum(name in choice for choice in choices) > len(choices)]


def foreground(clusters: np.ndarray, chosen: Sequence[int], fill_holes: bool = True) -> np.ndarray:
    """Which px, bool `[h, w]`, belong to the chosen ones of the clusters `[h, w]`.

    Holes of particles are filled, as `otsu_watershed` does; the meshes of a net of filaments are no holes.
    """
    mask = np.isin(clusters, chosen)
    return ndimage.binary_fill_holes(mask) if fill_holes else mask


def best_iou(clusters: np.ndarray, true: np.ndarray, fill_holes: bool = True) -> float:
    """The IoU with the mask `true` of the union of clusters, both `[h, w]`, that is most like it.

    It looks at the truth, and so is no result but a bound: what the clusters could give if no rule had to choose.
    """
    names = np.unique(clusters)
    unions = (subset for size in range(len(names)) for subset in combinations(names, size))
    return max(iou(true, foreground(clusters, subset, fill_holes)) for subset in unions)
