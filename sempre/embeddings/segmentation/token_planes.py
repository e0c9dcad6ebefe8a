"""Cells and prototypes on a plane, to see whether what is sought lies apart in the backbone's space."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sempre.embeddings.scores.maps import plane
from sempre.embeddings.segmentation.prototype_study import Micrographs
from sempre.embeddings.segmentation.prototypes import Prototypes, normalise

TOKENS = 2000  # cells on the plane


@dataclass(frozen=True)
class Tokens:
    """Cells on a plane: `points` `[N, 2]`, whether each is `foreground`, and those of the prototypes of either sort."""

    method: str
    points: np.ndarray
    foreground: np.ndarray
    positive: np.ndarray
    negative: np.ndarray


def token_planes(
    micrographs: Micrographs, indices: Sequence[int] | np.ndarray, model: Prototypes, method: str, seed: int = 0
) -> list[Tokens]:
    """Cells drawn from the micrographs at `indices`, with the prototypes: by PCA, and by `method` of `maps.METHODS`."""
    random = np.random.default_rng(seed)
    cells, foreground = [], []
    for index in indices:
        embedding = micrographs.embedding(index)
        covered = embedding.grid.to_cells(micrographs.foreground(index)).ravel() > 0.5
        chosen = random.permutation(len(covered))[: -(-TOKENS // len(indices))]
        cells.append(normalise(embedding.cells.reshape(len(covered), -1)[chosen]))
        foreground.append(covered[chosen])
    everything = np.concatenate([*cells, model.positive, model.negative])
    first = len(everything) - len(model.positive) - len(model.negative)
    ends = [first, first + len(model.positive)]
    tokens = {}
    for wanted in ("pca", method):
        points, name = plane(everything, wanted, seed)
        of_cells, positive, negative = np.split(points, ends)
        tokens[name] = Tokens(name, of_cells, np.concatenate(foreground), positive, negative)
    return list(tokens.values())
