from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from threadpoolctl import threadpool_limits

from sempre.errors import InputError
from sempre.frozen.clusters import (
    agreement,
    centrality,
    cluster,
    cluster_by_all,
    cluster_figures,
    cluster_image,
    numbered_alike,
    principal_components,
    silhouette,
)

partitions = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*(arrays(np.int64, n, elements=st.integers(0, 3)) for _ in range(2)))
)


def blobs(points: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three separate clouds in 5 dimensions and which each point is of."""
    random = np.random.default_rng(seed)
    names = np.arange(3).repeat(points)
    return (random.normal(size=(3, 5)) * 20)[names] + random.normal(size=(3 * points, 5)), names


@given(partitions, st.integers(0, 1000))
def test_clusters_are_numbered_as_those_that_they_are_most_like(both, seed):
    clusters, reference = both
    renumbered = numbered_alike(clusters, reference)
    assert agreement(renumbered, clusters)["ari"] == 1, "the partition is the same"
    shared = (renumbered == reference).sum()
    for names in permutations(range(4)):
        assert (np.array(names)[clusters] == reference).sum() <= shared
    shuffled = np.random.default_rng(seed).permutation(4)[reference]
    np.testing.assert_array_equal(numbered_alike(shuffled, reference), reference)


def test_of_too_many_points_to_link_some_tell_the_clusters(monkeypatch):
    points, names = blobs()
    monkeypatch.setattr("sempre.frozen.clusters.LINKED", 12)
    assert agreement(cluster(points, 3, "agglomerative"), names)["ari"] == 1


@given(partitions)
def test_the_adjusted_rand_index_counts_pairs(both):
    first, second = both
    pairs = list(combinations(range(len(first)), 2))
    same = np.array([[part[i] == part[j] for i, j in pairs] for part in both], bool).reshape(2, -1)
    together, of_first, of_second = (same[0] & same[1]).sum(), same[0].sum(), same[1].sum()
    expected = of_first * of_second / len(pairs) if pairs else 0
    most = (of_first + of_second) / 2
    ari = 1.0 if most == expected else (together - expected) / (most - expected)
    assert agreement(first, second)["ari"] == pytest.approx(ari)


@given(partitions)
def test_normalised_mutual_information_is_that_of_its_definition(both):
    first, second = both
    joint = np.zeros((4, 4))
    np.add.at(joint, both, 1 / len(first))

    def entropy(shares: np.ndarray) -> float:
        shares = shares[shares > 0]
        return -(shares * np.log(shares)).sum()

    entropies = entropy(joint.sum(1)), entropy(joint.sum(0))
    mutual = sum(entropies) - entropy(joint.ravel())
    expected = mutual / np.mean(entropies) if max(entropies) > 0 else 1.0
    assert agreement(first, second)["nmi"] == pytest.approx(expected, abs=1e-9)


def test_agreement_where_it_says_nothing():
    assert agreement(np.zeros(4, int), np.zeros(4, int)) == {"ari": 1.0, "nmi": 1.0}
    assert agreement(np.zeros(4, int), np.arange(4) % 2) == {"ari": 0.0, "nmi": 0.0}
    assert all(np.isnan(value) for value in agreement(np.zeros(0, int), np.zeros(0, int)).values())


@settings(deadline=None)
@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(
            arrays(np.float64, (n, 2), elements=st.integers(-9, 9)), arrays(np.int64, n, elements=st.integers(0, 3))
        )
    )
)
def test_the_silhouette_is_brute_force_over_all_distances(drawn):
    points, clusters = drawn
    names = np.unique(clusters)
    if not 2 <= len(names) < len(points):
        assert np.isnan(silhouette(points, clusters))
        return
    values = []
    for i, point in enumerate(points):
        distances = np.linalg.norm(points - point, axis=1)
        own = [distances[j] for j in range(len(points)) if clusters[j] == clusters[i] and j != i]
        others = [distances[clusters == name].mean() for name in names if name != clusters[i]]
        inside, outside = np.mean(own) if own else 0.0, min(others)
        largest = max(inside, outside)
        values.append((outside - inside) / largest if own and largest > 0 else 0.0)
    assert silhouette(points, clusters) == pytest.approx(np.mean(values), abs=1e-9)


def test_the_silhouette_of_many_points_is_of_some_of_them():
    points, names = blobs(3000)
    assert silhouette(points, names, seed=1) == silhouette(points, names, seed=1)
    assert silhouette(points, names, seed=1) == pytest.approx(silhouette(points[::5], names[::5]), abs=0.02)


@pytest.mark.parametrize("method", ["kmeans", "agglomerative"])
def test_separate_clouds_are_told_apart(method):
    points, names = blobs()
    found = cluster(points, 3, method)
    assert agreement(found, names)["ari"] == 1.0
    assert set(found) == {0, 1, 2}


@pytest.mark.parametrize("method", ["kmeans", "agglomerative"])
def test_fewer_points_than_clusters(method):
    assert len(cluster(np.zeros((0, 3)), 4, method)) == 0
    assert cluster(np.ones((1, 3)), 4, method).tolist() == [0]
    assert sorted(cluster(np.eye(3), 5, method)) == [0, 1, 2]
    assert len(set(cluster(np.ones((6, 3)), 1, method))) == 1


def test_no_number_of_threads_changes_a_cluster():
    points = np.random.default_rng(0).normal(size=(4000, 16)).astype(np.float32)
    with threadpool_limits(1):
        alone = cluster(points, 7, seed=3)
    with threadpool_limits(2):
        np.testing.assert_array_equal(cluster(points, 7, seed=3), alone)


def test_what_cannot_be_clustered():
    with pytest.raises(InputError, match="0 clusters cannot be made"):
        cluster(np.eye(3), 0)
    with pytest.raises(InputError, match="method=ward is unknown"):
        cluster(np.eye(3), 2, "ward")


def test_principal_components_are_those_of_the_decomposition():
    cells = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    found = principal_components(cells, 4)
    left, values, _ = np.linalg.svd(cells - cells.mean(0), full_matrices=False)
    expected = left[:, :4] * values[:4]
    expected /= expected[:, 0].std()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)
    assert principal_components(cells[:3], 20).shape == (3, 3)
    assert not principal_components(np.ones((5, 6), np.float32), 4).any()


def test_the_means_found_on_some_px_hold_for_all():
    image = np.random.default_rng(0).normal(scale=0.05, size=(320, 400, 1)).astype(np.float32)
    image[100:200, 100:300] += 1
    clusters = cluster_image(image, 2, seed=5)
    np.testing.assert_array_equal(clusters, cluster_image(image, 2, seed=5))
    bright = clusters == clusters[150, 200]
    np.testing.assert_array_equal(bright, image[..., 0] > 0.5)


def test_methods_side_by_side_have_the_same_numbers():
    points, names = blobs()
    clusters = cluster_by_all(points, 3, ["kmeans", "agglomerative"])
    assert list(clusters) == ["kmeans", "agglomerative"]
    np.testing.assert_array_equal(clusters["kmeans"], clusters["agglomerative"])
    assert agreement(clusters["kmeans"], names)["ari"] == 1
    distances = centrality(points, clusters["kmeans"])
    for number in range(3):
        members = points[clusters["kmeans"] == number]
        expected = np.linalg.norm(members - members.mean(axis=0), axis=1)
        np.testing.assert_allclose(distances[clusters["kmeans"] == number], expected)


def test_figures_of_labels_are_told_where_there_are_two_or_more():
    points, names = blobs()
    points = points.astype(np.float32)
    clusters = {"kmeans": cluster(points, 3)}
    labels = names.copy()
    labels[::4] = -1  # not known
    figures = cluster_figures(points, clusters, labels)
    assert figures["kmeans"]["ari"] == figures["kmeans"]["nmi"] == 1
    assert figures["kmeans"]["silhouette"] == silhouette(points, clusters["kmeans"])
    assert figures["separation"] > 10 and 1 <= figures["rank_me"] <= 5
    alone = cluster_figures(points, clusters, np.full(len(points), -1))
    assert alone.keys() == {"rank_me", "kmeans"} and alone["kmeans"].keys() == {"silhouette", "separation"}
