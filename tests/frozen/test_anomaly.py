import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from sempre.frozen.pooling import bulk_distance


@given(st.integers(1, 30), st.sampled_from([0.5, 0.9, 1.0]), st.integers(0, 1000))
def test_it_is_the_cosine_distance_to_the_centroid_of_the_bulk(count, bulk, seed):
    embeddings = np.random.default_rng(seed).normal(size=(count, 4)) + 1
    unit = np.array([row / np.sqrt((row**2).sum()) for row in embeddings])
    mean = unit.mean(0)
    similarity = [row @ mean / np.sqrt(mean @ mean) for row in unit]
    kept = sorted(range(count), key=lambda position: -similarity[position])
    last = max(1, round(bulk * count))
    assume(
        last == count or similarity[kept[last - 1]] - similarity[kept[last]] > 1e-9
    )  # the bulk is not a matter of luck
    kept = kept[:last]
    centroid = unit[kept].mean(0)
    expected = [1 - row @ centroid / np.sqrt(centroid @ centroid) for row in unit]
    np.testing.assert_allclose(bulk_distance(embeddings, bulk), expected, atol=1e-9)


def test_the_strange_one_is_the_farthest_and_zeros_are_at_one():
    embeddings = np.tile([1.0, 0.1, 0.0], (20, 1)) + np.random.default_rng(0).normal(0, 0.01, (20, 3))
    embeddings[7] = [0, 0, 5]
    embeddings[3] = 0
    distances = bulk_distance(embeddings)
    assert distances.argmax() in (3, 7)
    assert distances[3] == 1
    np.testing.assert_array_equal(bulk_distance(np.zeros((3, 2))), 1)


def test_the_bulk_may_be_named():
    random = np.random.default_rng(0)
    kinds = np.arange(20) < 6
    embeddings = np.where(kinds[:, None], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]) + random.normal(0, 0.05, (20, 3))
    assert bulk_distance(embeddings)[kinds].min() > bulk_distance(embeddings)[~kinds].max(), "the many are usual"
    named = bulk_distance(embeddings, kinds)
    assert named[kinds].max() < 0.1 < 0.8 < named[~kinds].min()
    np.testing.assert_allclose(bulk_distance(embeddings, np.ones(20, bool)), bulk_distance(embeddings, 1.0))
