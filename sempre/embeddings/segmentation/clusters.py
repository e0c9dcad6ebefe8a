"""Clusters of embeddings, and of px or patches."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
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

from sempre.data.crops import ORDER, generator
from sempre.embeddings.scores.quality import separation
from sempre.errors import InputError
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
