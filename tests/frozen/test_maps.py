import importlib.util

import numpy as np
import pytest

from sempre.errors import InputError
from sempre.frozen.pooling import plane

HAS_UMAP = importlib.util.find_spec("umap") is not None


def test_pca_is_the_projection_with_the_most_variance():
    embeddings = np.random.default_rng(0).normal(size=(40, 5)) * [1, 9, 1, 4, 1]
    points, method = plane(embeddings, "pca")
    assert method == "PCA"
    _, singular, _ = np.linalg.svd(embeddings - embeddings.mean(0))
    np.testing.assert_allclose(np.linalg.norm(points, axis=0), singular[:2])


def test_few_embeddings_lie_somewhere():
    assert plane(np.ones((1, 4)))[0].shape == (1, 2)
    points, method = plane(np.array([[0.0], [1.0], [3.0]]))
    assert (points.shape, method) == ((3, 2), "PCA")


def test_a_map_of_umap_keeps_groups_together():
    random = np.random.default_rng(0)
    groups = np.repeat([[5.0, 0, 0], [0, 5, 0], [0, 0, 5]], 20, axis=0) + random.normal(0, 0.2, (60, 3))
    if not HAS_UMAP:
        with pytest.raises(InputError, match="map=umap needs umap-learn"):
            plane(groups, "umap")
        assert plane(groups, "auto")[1] == "PCA"
        return
    points, method = plane(groups, "auto")
    assert method == "UMAP"
    np.testing.assert_array_equal(points, plane(groups, "umap")[0])
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(1) // 20 == np.arange(60) // 20).mean() > 0.9
    with pytest.raises(InputError, match="map=tsne is unknown"):
        plane(groups, "tsne")
