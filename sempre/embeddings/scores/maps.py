"""Embeddings on a plane, to be looked at."""

import warnings
from typing import Annotated

import numpy as np
from sklearn.decomposition import PCA

from sempre.errors import InputError, how_to_install
from sempre.ranges import OneOf

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
