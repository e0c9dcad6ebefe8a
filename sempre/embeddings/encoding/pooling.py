"""One vector for a micrograph from its cells, without any mask."""

import numpy as np

from sempre.embeddings.encoding.embedding_file import Embedding
from sempre.errors import InputError

TOP = "top-"


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
