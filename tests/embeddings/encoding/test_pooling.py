import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempre.embeddings.encoding.embedding_file import Embedding
from sempre.embeddings.encoding.grid import Grid
from sempre.embeddings.encoding.pooling import pool, top_k_mean
from sempre.errors import InputError


@given(st.integers(1, 12), st.integers(0, 1000))
def test_the_strongest_cells_are_averaged(k, seed):
    cells = np.random.default_rng(seed).normal(size=(3, 4, 5))
    by_norm = sorted(cells.reshape(12, 5), key=lambda cell: -np.sqrt(sum(value * value for value in cell)))
    np.testing.assert_allclose(top_k_mean(cells, k), sum(by_norm[:k]) / k)


def test_all_cells_are_the_mean_and_more_are_an_error():
    embedding = Embedding("a", Grid(64, 64, 64, 64, 32), np.arange(12.0).reshape(2, 2, 3), None)
    np.testing.assert_allclose(pool(embedding, "top-4"), pool(embedding, "mean"))
    with pytest.raises(InputError, match="the 5 strongest of 4 cells cannot be pooled: take k from 1 to 4"):
        pool(embedding, "top-5")
    with pytest.raises(InputError, match="take k from 1"):
        pool(embedding, "top-0")
    with pytest.raises(InputError, match="has no class token"):
        pool(embedding, "class")
    with pytest.raises(InputError, match="pooling=median is unknown"):
        pool(embedding, "median")
