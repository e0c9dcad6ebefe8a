"""How far cells of particles and of background lie apart: by neighbours, and on a plane."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from sempre.frozen.clusters import silhouette
from sempre.frozen.embedding_file import Embedding
from sempre.frozen.pooling import plane
from sempre.frozen.prototype_study import Micrographs, Samples
from sempre.frozen.prototypes import Prototypes, normalise
from sempre.frozen.tasks import nearest, retrieval_accuracy
from sempre.metrics import summarise_repeats

CELLS = 4096  # of a micrograph, whose silhouette and neighbours are found; of more, so many are drawn


def separability(micrographs: Micrographs, samples: Samples, k: int = 10, seed: int = 0) -> dict:
    """Mean and deviation of `cell_separability` over the `micrographs` where it is defined, and how many these are; nan
    where it never is."""
    found = [
        cell_separability(micrographs.embedding(index), micrographs.foreground(index), k, seed)
        for indices in samples.values()
        for index in tqdm(indices, desc="neighbours", unit="image")
    ]
    defined = [of_one for of_one in found if not np.isnan(list(of_one.values())).any()]
    return {"micrographs": len(defined), **summarise_repeats(defined or found[:1])}


def cell_separability(embedding: Embedding, mask: np.ndarray, k: int = 10, seed: int = 0) -> dict[str, float]:
    """How far a micrograph's foreground cells lie apart from its background ones, of its mask bool `[H, W]`.

    `silhouette` of both; `knn`, the mean share of a cell's k nearest other ones, by cosine, that are of its sort; and
    `knn_balanced`, in which both sorts weigh the same: where nine tenths are background, `knn` of cells that mean
    nothing is 0.82 already, `knn_balanced` 0.5. nan where there are no two sorts, or too few cells.
    """
    covered = embedding.grid.to_cells(mask).ravel() > 0.5
    drawn = np.sort(np.random.default_rng(seed).permutation(len(covered))[:CELLS])
    covered, cells = covered[drawn], normalise(embedding.cells.reshape(len(covered), -1)[drawn])
    if covered.all() or not covered.any() or len(covered) <= k:
        return dict.fromkeys(("silhouette", "knn", "knn_balanced"), float("nan"))
    neighbours = nearest(cells, cells, k + 1)
    # A cell is its own nearest one; where others equal it, whichever comes last goes.
    itself = neighbours == np.arange(len(cells))[:, None]
    itself[~itself.any(axis=1), -1] = True
    of_others = covered[neighbours[~itself].reshape(-1, k)]
    return {
        "silhouette": silhouette(cells, covered.astype(int), seed),
        "knn": float((of_others == covered[:, None]).mean()),
        "knn_balanced": retrieval_accuracy(of_others, covered),
    }


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
