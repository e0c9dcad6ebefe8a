"""How strange a micrograph is among the others."""

import numpy as np


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
