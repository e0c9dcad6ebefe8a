import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempre.errors import InputError
from sempre.frozen.embedding_file import Embedding, Embeddings, EmbeddingWriter
from sempre.frozen.encoder import Grid
from sempre.frozen.pooling import pool, pool_all, top_k_mean

SETTINGS = {"encoder_checksum": "", "class_token": False, "width": 4, "cell": 8}


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


def test_images_of_several_sizes_are_pooled_in_each_way_and_their_strongest_cells_have_places(tmp_path):
    random = np.random.default_rng(0)
    known = {}
    for sha256, (rows, columns) in {"a" * 64: (2, 3), "b" * 64: (3, 3)}.items():
        grid = Grid(8 * rows, 8 * columns, 8 * rows, 8 * columns, 8)
        known[sha256] = Embedding(sha256, grid, random.normal(size=(rows, columns, 4)).astype(np.float32), None)
    with EmbeddingWriter(tmp_path / "embeddings.h5", SETTINGS) as writer:
        for embedding in known.values():
            writer.append([embedding])
    with Embeddings(tmp_path / "embeddings.h5") as embeddings:
        vectors, cells = pool_all(embeddings, list(known), ["first", "second"], 2, [5, 8])
        with pytest.raises(InputError, match="k=7 is more than the 6 cells of first: take a smaller k"):
            pool_all(embeddings, list(known), ["first", "second"], 7)
        read = {sha256: embeddings[sha256] for sha256 in known}
    assert list(vectors) == ["mean", "top-2", "top-5"], "8 are more than the first has"
    for position, embedding in enumerate(read.values()):
        for way, values in vectors.items():
            np.testing.assert_allclose(values[position], pool(embedding, way), rtol=1e-6)
        norms = np.linalg.norm(embedding.cells, axis=-1)
        np.testing.assert_allclose(cells.norms[position], np.sort(norms, axis=None)[::-1][:2], rtol=1e-6)
        row, column = np.unravel_index(norms.argmax(), norms.shape)
        assert cells.boxes[position, 0].tolist() == [8 * column, 8 * row, 8 * column + 8, 8 * row + 8]
