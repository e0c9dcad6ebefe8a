"""One vector for a micrograph from its cells, without any mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from sempre.embeddings.encoding.embedding_file import Embedding, Embeddings
from sempre.errors import InputError

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
