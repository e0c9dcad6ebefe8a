import numpy as np
import pytest
from sklearn.metrics import silhouette_score
from sklearn.metrics.pairwise import cosine_similarity

from sempre.frozen.embedding_file import Embedding
from sempre.frozen.encoder import Grid
from sempre.frozen.prototype_study import KINDS, kind_of, spread
from sempre.frozen.separability import cell_separability


def test_deviations_are_over_micrographs_and_over_draws():
    dice = {("a", 0): 0.5, ("a", 1): 0.7, ("b", 0): 0.2, ("b", 1): 0.3}
    rows = [
        {"name": name, "reference_sample": "x", "draw": draw, "dice": value, "iou": value / 2, "hd95_px": 10 * value}
        for (name, draw), value in dice.items()
    ]
    found = spread(rows)
    assert found["dice"]["mean"] == pytest.approx(0.425)
    assert found["dice"]["std_micrographs"] == pytest.approx(np.std([0.6, 0.25], ddof=1))
    assert found["dice"]["std_draws"] == pytest.approx(np.std([0.35, 0.5], ddof=1))
    assert found["hd95_px"]["mean"] == pytest.approx(4.25)
    assert spread([]) is None


def test_a_micrograph_of_its_own_is_no_other_one_of_its_sample():
    assert [kind_of(True, True), kind_of(True, False), kind_of(False, False)] == list(KINDS)


def test_neighbours_of_a_cell_are_other_cells():
    random = np.random.default_rng(0)
    mask = np.zeros((32, 40), bool)
    mask[:16, :20] = True
    covered = mask[::4, ::4].ravel()
    cells = random.normal(size=(80, 5)) + 1.5 * covered[:, None]
    cells[7] = cells[3]  # equal cells are neighbours of each other, not of themselves
    embedding = Embedding("", Grid(32, 40, 32, 40, 4), cells.reshape(8, 10, 5).astype(np.float32), None)
    found = cell_separability(embedding, mask, k=6)

    likeness = cosine_similarity(cells)
    np.fill_diagonal(likeness, -2)
    shares = (covered[np.argsort(-likeness, axis=1)[:, :6]] == covered[:, None]).mean(axis=1)
    assert found["knn"] == pytest.approx(shares.mean())
    assert found["knn_balanced"] == pytest.approx((shares[covered].mean() + shares[~covered].mean()) / 2)
    directions = cells / np.linalg.norm(cells, axis=1, keepdims=True)
    assert found["silhouette"] == pytest.approx(silhouette_score(directions, covered), abs=1e-5)
    assert np.isnan(cell_separability(embedding, ~np.zeros_like(mask), k=6)["knn"]), "one sort alone"
