"""Think, without a word from the operator: how strange a patch is among all patches of the preview."""

import numpy as np
from sklearn.ensemble import IsolationForest

from sempre.embeddings.scores.anomaly import bulk_distance
from sempre.errors import InputError
from sempre.scan.think.one_thread import one_thread
from sempre.scan.think.patches import Patches

METHODS = ("isolation_forest", "bulk", "neighbours")
TREES = 100
BANK = 2000  # patches that others are compared with, at most
NEAREST = 3  # of them are averaged


def strangeness(patches: Patches, method: str = "neighbours", seed: int = 0, overlap: int = 64) -> np.ndarray:
    """How strange each patch is, float64 `[N]`; higher is stranger, the scale is the method's own.

    - `isolation_forest`: s = 2^(-E[h] / c(n)) of the path length h in random trees (Liu et al., "Isolation forest",
      ICDM 2008; scikit-learn's), 0 to 1.
    - `bulk`: cosine distance to the centroid of the nearest nine tenths.
    - `neighbours`: mean distance to the nearest patches elsewhere, those that share no px with it, of a bank drawn by
      the seed (after Roth et al., "PatchCore", CVPR 2022, the normal ones being the preview's own bulk).

    Args:
        overlap: side in px of the largest patch, by which `neighbours` knows which share px.

    Raises:
        InputError: for an unknown method.
    """
    if method == "isolation_forest":
        forest = IsolationForest(n_estimators=TREES, random_state=seed).fit(patches.vectors)
        return -forest.score_samples(patches.vectors)
    if method == "bulk":
        return bulk_distance(patches.vectors)
    if method == "neighbours":
        return _distance_elsewhere(patches, seed, overlap)
    raise InputError(f"anomaly={method} is unknown: choose {', '.join(METHODS)}")


def _distance_elsewhere(patches: Patches, seed: int, overlap: int) -> np.ndarray:
    """Row by row of the grid, for what shares px with a row's patches is a band of the bank and near in few columns."""
    vectors = patches.vectors.astype(np.float32)
    rows, columns = patches.shape
    bank = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:BANK])
    bank_rows, bank_columns = np.divmod(bank, columns)
    # One product gives |b|^2 - 2ab, the squared distance less a patch's own square, which no order depends on.
    others = np.concatenate([vectors[bank].T, (vectors[bank] ** 2).sum(axis=1)[None]])
    own = np.concatenate([-2 * vectors, np.ones((len(vectors), 1), np.float32)], axis=1)
    squares, reach = (vectors**2).sum(axis=1), overlap / patches.grid.cell
    nearest = np.zeros(len(vectors))
    with one_thread():
        for row in range(rows):
            part = slice(row * columns, (row + 1) * columns)
            distances = own[part] @ others
            band = np.flatnonzero(np.abs(bank_rows - row) < reach)
            shared = np.abs(np.arange(columns)[:, None] - bank_columns[band]) < reach
            distances[:, band] = np.where(shared, np.inf, distances[:, band])
            kept = np.partition(distances, min(NEAREST, len(bank)) - 1, axis=1)[:, :NEAREST]
            kept = np.sqrt(np.maximum(kept + squares[part, None], 0))
            seen = np.isfinite(kept)
            nearest[part] = np.where(seen, kept, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    return nearest
