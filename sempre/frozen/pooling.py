"""One vector for a micrograph, how strange it is among others, and embeddings on a plane."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from sklearn.decomposition import PCA
from tqdm import tqdm

from sempre.errors import InputError, how_to_install
from sempre.frozen.embedding_file import Embedding, Embeddings
from sempre.ranges import OneOf

TOP = "top-"


@dataclass(frozen=True)
class Cells:
    """The k strongest cells of N images, the strongest first: `boxes` `[N, k, 4]` (x0, y0, x1, y1 in px of the image),
    `norms` `[N, k]`."""

    boxes: np.ndarray
    norms: np.ndarray


def strongest(cells: np.ndarray, k: int) -> np.ndarray:
    """Positions `[k]` of the cells of largest L2 norm, of `[..., C]` counted row by row, the strongest first.

    Of equal norms the first counts as stronger.

    Raises:
        InputError: for a k below 1 or above the number of cells.
    """
    cells = cells.reshape(-1, cells.shape[-1])
    if not 1 <= k <= len(cells):
        raise InputError(f"the {k} strongest of {len(cells)} cells cannot be pooled: take k from 1 to {len(cells)}")
    norms = np.linalg.norm(cells.astype(np.float64), axis=1)
    return np.argsort(-norms, kind="stable")[:k]


def top_k_mean(cells: np.ndarray, k: int) -> np.ndarray:
    """Mean `[C]` of the `k` cells of largest L2 norm, of `[..., C]`; of equal norms the first.

    The norm stands in for a mask, which is true of networks that give what they find salient larger norms. With k as
    large as the number of cells it is the mean.

    Raises:
        InputError: as `strongest`.
    """
    return cells.reshape(-1, cells.shape[-1])[strongest(cells, k)].mean(axis=0)


def pool(embedding: Embedding, pooling: str) -> np.ndarray:
    """A micrograph's vector `[C]`: `mean` of its cells, `class` token, or `top-<k>`.

    Raises:
        InputError: for another name, a class token where the network has none, or too large a k.
    """
    if pooling == "mean":
        return embedding.cells.mean(axis=(0, 1))
    if pooling == "class":
        if embedding.class_token is None:
            raise InputError("pooling=class needs a vision transformer: this backbone has no class token")
        return embedding.class_token
    if not pooling.startswith(TOP) or not pooling.removeprefix(TOP).isdigit():
        raise InputError(f"pooling={pooling} is unknown: choose mean, class or {TOP}<k>, for example {TOP}32")
    return top_k_mean(embedding.cells, int(pooling.removeprefix(TOP)))


def pool_all(
    embeddings: Embeddings, sha256s: Sequence[str], names: Sequence[str], k: int, compared_ks: Sequence[int] = ()
) -> tuple[dict[str, np.ndarray], Cells]:
    """Images' vectors `[N, C]` for each way of pooling, and their k strongest cells; one image is in memory at a time.

    The ways are `mean`, `class` where the network has a class token, and the `top-<k>` of `k` and of those of
    `compared_ks` that no image has too few cells for.

    Args:
        sha256s: of the images' files, by which their embeddings are known, `[N]`.
        names: of the images, for the error.

    Raises:
        InputError: for a k above the number of cells of an image.
    """
    first = embeddings[sha256s[0]]
    counts = [embeddings.grid(sha256).cells for sha256 in sha256s]
    fewest = int(np.argmin(counts))
    if counts[fewest] < k:
        raise InputError(
            f"k={k} is more than the {counts[fewest]} cells of {names[fewest]}: take a smaller k, an earlier layer or "
            "a larger size"
        )
    ways = ["mean"] + (["class"] if first.class_token is not None else [])
    ways += [f"{TOP}{number}" for number in sorted({k, *compared_ks}) if number <= counts[fewest]]
    vectors = {way: np.empty((len(sha256s), first.cells.shape[-1]), np.float32) for way in ways}
    boxes = np.empty((len(sha256s), k, 4), np.float32)
    norms = np.empty((len(sha256s), k), np.float32)
    for position, sha256 in enumerate(tqdm(sha256s, desc="pooling", unit="image")):
        embedding = embeddings[sha256]
        for way in ways:
            vectors[way][position] = pool(embedding, way)
        cells = strongest(embedding.cells, k)
        boxes[position] = embedding.grid.boxes(cells)
        norms[position] = np.linalg.norm(embedding.cells.reshape(-1, embeddings.width)[cells], axis=1)
    return vectors, Cells(boxes, norms)


def bulk_distance(embeddings: np.ndarray, bulk: float | np.ndarray = 0.9) -> np.ndarray:
    """Cosine distance `[N]`, 0 to 2, of embeddings `[N, D]` to the centroid of the bulk, the mean of its directions.

    The bulk is those that a mask `[N]` names; or a share of all, those nearest to the mean of all, so that the strange
    ones do not draw the centroid to themselves. A vector of zeros, which has no direction, is at distance 1.
    """
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = np.divide(embeddings, norms, out=np.zeros(embeddings.shape), where=norms > 0)
    if isinstance(bulk, np.ndarray):
        return _cosine_distance(directions, directions[bulk].mean(axis=0))
    to_mean = _cosine_distance(directions, directions.mean(axis=0))
    nearest = np.argsort(to_mean, kind="stable")[: max(1, round(bulk * len(embeddings)))]
    return _cosine_distance(directions, directions[nearest].mean(axis=0))


def _cosine_distance(directions: np.ndarray, centroid: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(centroid)
    return 1 - directions @ (centroid / norm) if norm > 0 else np.ones(len(directions))


METHODS = ("auto", "umap", "pca")
MapMethod = Annotated[str, OneOf(*METHODS)]


def plane(embeddings: np.ndarray, method: str = "auto", seed: int = 0) -> tuple[np.ndarray, str]:
    """Embeddings `[N, D]` as points `[N, 2]`, and the name of the method: UMAP, or PCA where that is not installed.

    UMAP by cosine distance with 15 neighbours (McInnes et al., 2018), deterministic in the seed. Fewer than four
    embeddings are always projected by PCA.

    Raises:
        InputError: for an unknown method, or UMAP where it is not installed.
    """
    if method not in METHODS:
        raise InputError(f"map={method} is unknown: choose {', '.join(METHODS)}")
    if method != "pca" and len(embeddings) > 3:
        try:
            from umap import UMAP
        except ImportError:
            if method == "umap":
                raise InputError(f"map=umap needs umap-learn: {how_to_install('maps')}") from None
        else:
            neighbours = min(15, len(embeddings) - 1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a seed means one thread
                umap = UMAP(n_neighbors=neighbours, metric="cosine", random_state=seed, init="pca")
                return umap.fit_transform(embeddings).astype(np.float64), "UMAP"
    if len(embeddings) < 2:
        return np.zeros((len(embeddings), 2)), "PCA"
    components = min(2, *embeddings.shape)
    points = PCA(components, random_state=seed).fit_transform(embeddings)
    return np.pad(points, ((0, 0), (0, 2 - components))), "PCA"
