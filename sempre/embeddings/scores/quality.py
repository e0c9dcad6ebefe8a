"""How well frozen embeddings tell labels apart, without training the backbone."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sempre.errors import InputError


def nearest(bank: np.ndarray, queries: np.ndarray, k: int = 10) -> np.ndarray:
    """Positions `[M, k]` in `bank` `[N, D]` of each query's `[M, D]` nearest embeddings by cosine, nearest first.

    Raises:
        InputError: for a k below 1 or above N.
    """
    if not 1 <= k <= len(bank):
        raise InputError(f"k={k} neighbours cannot be found among {len(bank)} embeddings: take k from 1 to {len(bank)}")
    search = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(bank)
    return search.kneighbors(queries, return_distance=False)


def retrieval_accuracy(neighbour_labels: np.ndarray, labels: np.ndarray) -> float:
    """Mean share of the retrieved neighbours `[M, k]` that have the query's label `[M]`, each class weighing the same.

    With every label drawn at random from equally many it is 1 over the number of classes; nan without queries.
    """
    return _balanced((neighbour_labels == labels[:, None]).mean(axis=1), labels)


def vote(neighbour_labels: np.ndarray) -> np.ndarray:
    """The most frequent label `[M]` of the neighbours `[M, k]`; of equally frequent ones the lowest."""
    names, positions = np.unique(neighbour_labels, return_inverse=True)
    positions = positions.reshape(neighbour_labels.shape)
    counts = np.stack([(positions == label).sum(axis=1) for label in range(len(names))], axis=1)
    return names[counts.argmax(axis=1)]


def balanced_accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes of the share that is told right; nan without labels."""
    return _balanced((predicted == labels).astype(float), labels)


def linear_probe(seed: int = 0) -> Pipeline:
    """Logistic regression on standardised embeddings, classes weighing the same: `fit` and `predict` as scikit-learn's.

    Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016.
    """
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, class_weight="balanced", random_state=seed))


def separation(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """Variance between the classes' means over variance within the classes, of `[N, D]` and labels `[N]`.

    nan with fewer than two classes; infinite where all embeddings of a class are one point.
    """
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        return float("nan")
    means = np.stack([embeddings[labels == name].mean(axis=0) for name in names])
    total = embeddings.mean(axis=0)
    between = (counts * ((means - total) ** 2).sum(axis=1)).sum()
    within = ((embeddings - means[np.searchsorted(names, labels)]) ** 2).sum()
    return float(between / within) if within > 0 else float("inf")


def _balanced(values: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the labels of the mean value of each."""
    if not len(labels):
        return float("nan")
    return float(np.mean([values[labels == label].mean() for label in np.unique(labels)]))
