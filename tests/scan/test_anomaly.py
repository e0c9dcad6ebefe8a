import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from sempre.errors import InputError
from sempre.scan.priorities import METHODS, strangeness
from tests.scan.conftest import STRANGE


@pytest.mark.parametrize("method", METHODS)
def test_what_stands_out_is_the_strangest_and_the_seed_tells_all(patches, method):
    vectors = patches.vectors + np.float32([0, 0, 6, 0, 0])  # the bulk has a direction
    shifted = type(patches)(patches.grid, vectors)
    scores = strangeness(shifted, method, seed=1)
    strangest = {tuple(np.unravel_index(index, patches.shape)) for index in np.argsort(-scores)[:2]}
    assert strangest == set(STRANGE)
    np.testing.assert_array_equal(scores, strangeness(shifted, method, seed=1))


def test_the_forest_scores_by_path_lengths(patches):
    forest = IsolationForest(n_estimators=100, random_state=3).fit(patches.vectors)
    scores = strangeness(patches, "isolation_forest", seed=3)
    np.testing.assert_allclose(scores, -forest.score_samples(patches.vectors))
    assert ((scores > 0) & (scores < 1)).all()


def test_neighbours_are_those_that_share_no_px(patches):
    """A large strange area does not explain itself by its own other patches."""
    vectors = patches.vectors.reshape(16, 16, 5).copy()
    vectors[6:9, 6:9] = vectors[7, 7] + [20, 0, 0, 0, 0]
    scores = strangeness(type(patches)(patches.grid, vectors.reshape(-1, 5)), "neighbours", overlap=64)
    assert scores.reshape(16, 16)[6:9, 6:9].min() > 10
    centres, exact = patches.centres, []
    flat = patches.vectors.astype(np.float64)
    for index in range(5):
        apart = np.abs(centres - centres[index]).max(axis=1) >= 64
        exact.append(np.sort(np.linalg.norm(flat[apart] - flat[index], axis=1))[:3].mean())
    np.testing.assert_allclose(strangeness(patches, "neighbours", overlap=64)[:5], exact, rtol=1e-4)


def test_an_unknown_method(patches):
    with pytest.raises(InputError, match="anomaly=odd is unknown: choose isolation_forest, bulk, neighbours"):
        strangeness(patches, "odd")
