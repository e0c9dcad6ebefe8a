import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from sempre.data.sources import open_source
from sempre.errors import InputError
from sempre.frozen.encoder import open_encoder
from sempre.frozen.extract import ExtractionOptions, extract
from sempre.frozen.prototypes import (
    Clicks,
    Support,
    load_support,
    prototypes,
    prototypes_of,
    save_support,
    score,
    support_of,
)

SETTINGS = {
    "encoder_checksum": "a" * 64,
    "percentiles": [1, 99],
    "scale": 1.0,
    "size": 384,
    "pixel_size_nm": 0.0,
    "cell": 16,
}


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(0, 3), st.floats(0, 2))
def test_scores_are_those_of_plain_numpy(seed, positives, negatives, weight):
    random = np.random.default_rng(seed)
    cells = random.normal(size=(3, 4, 7)).astype(np.float32)
    support = Support(*(random.normal(size=(count, 7)).astype(np.float32) for count in (positives, negatives)))
    model = prototypes_of(support, weight=weight)
    unit = [[vector / np.linalg.norm(vector) for vector in side] for side in (support.positive, support.negative)]
    means = [np.mean(side, axis=0) if side else None for side in unit]
    for row in range(3):
        for column in range(4):
            expected = cosine(cells[row, column], means[0])
            if means[1] is not None:
                expected -= weight * cosine(cells[row, column], means[1])
            scored = score(cells, model.positive, model.negative, weight)[row, column]
            assert scored == pytest.approx(expected, abs=1e-5)


def test_of_several_prototypes_the_nearest_counts():
    positive = np.eye(3, dtype=np.float32)[:2]
    negative = np.eye(3, dtype=np.float32)[2:]
    cells = np.array([[5.0, 0, 0], [0, 0.1, 0], [0, 0, 2], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(score(cells, positive, negative, 0.8), [1, 1, -0.8, 0])


def test_several_prototypes_find_what_looks_in_several_ways():
    random = np.random.default_rng(0)
    directions = np.eye(8)[:3]
    embeddings = np.concatenate(
        [random.uniform(0.5, 5, (20, 1)) * (one + random.normal(0, 0.05, (20, 8))) for one in directions]
    ).astype(np.float32)
    found = prototypes(embeddings, 3, seed=0)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert (found @ directions.T).max(axis=0).min() > 0.99
    np.testing.assert_array_equal(found, prototypes(embeddings, 3, seed=0))


def test_there_are_no_more_prototypes_than_different_embeddings():
    same = np.tile(np.array([[3.0, 4.0]], np.float32), (5, 1))
    np.testing.assert_allclose(prototypes(same, 4), [[0.6, 0.8]])
    assert prototypes(np.empty((0, 2), np.float32), 2).shape == (0, 2)
    with pytest.raises(InputError, match="prototypes=0"):
        prototypes(same, 0)


def test_prototypes_need_a_positive_point():
    with pytest.raises(InputError, match="no positive points"):
        prototypes_of(Support(np.empty((0, 3), np.float32), np.ones((1, 3), np.float32)))
    with pytest.raises(InputError, match="weight=-1"):
        prototypes_of(Support(np.ones((1, 3), np.float32), np.ones((1, 3), np.float32)), weight=-1)


def test_saved_prototypes_are_for_their_backbone_and_size_alone(tmp_path):
    support = Support(np.ones((2, 5), np.float32), np.zeros((0, 5), np.float32))
    save_support(tmp_path / "a.safetensors", support, SETTINGS)
    loaded = load_support(tmp_path / "a.safetensors", SETTINGS)
    np.testing.assert_array_equal(loaded.positive, support.positive)
    assert loaded.negative.shape == (0, 5)
    with pytest.raises(InputError, match=r"a\.safetensors holds prototypes of another backbone or layer: give clicks="):
        load_support(tmp_path / "a.safetensors", SETTINGS | {"encoder_checksum": "b" * 64})
    with pytest.raises(InputError, match="prototypes of size=384, not size=512: take the former"):
        load_support(tmp_path / "a.safetensors", SETTINGS | {"size": 512})
    with pytest.raises(InputError, match=r"prototypes of percentiles=\[1, 99\], not percentiles=\[2, 98\]"):
        load_support(tmp_path / "a.safetensors", SETTINGS | {"percentiles": [2, 98]})
    (tmp_path / "b.safetensors").write_text("{}")
    for name in ("b.safetensors", "none.safetensors"):
        with pytest.raises(InputError, match="holds no prototypes"):
            load_support(tmp_path / name, SETTINGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three micrographs with a bright square each."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for number in range(3):
        pixels = random.normal(60, 10, (128, 160))
        pixels[32:96, 32 + 16 * number : 96 + 16 * number] += 120
        tifffile.imwrite(folder / f"{number}.tif", np.clip(pixels, 0, 255).astype(np.uint8))
    return folder


def test_one_click_of_each_sort_finds_the_squares_on_any_number_of_workers(folder, tmp_path):
    source, encoder = open_source(folder), open_encoder("intensity")
    clicks = Clicks(np.array([[64.0, 64.0]]), np.array([[8.0, 150.0]]))
    maps = []
    for workers in (0, 2):
        options = ExtractionOptions(embeddings=str(tmp_path / str(workers)), workers=workers)
        with extract(source, encoder, options) as embeddings:
            model = prototypes_of(support_of(embeddings[source.sha256s[0]], clicks))
            maps.append([model.heat_map(embeddings[sha256]) for sha256 in source.sha256s])
    for number, (alone, shared) in enumerate(zip(*maps, strict=True)):
        np.testing.assert_array_equal(alone, shared)
        truth = np.zeros((128, 160), bool)
        truth[32:96, 32 + 16 * number : 96 + 16 * number] = True
        for rule in ("otsu", "clicks"):
            mask = model.mask(alone, rule)
            assert (mask & truth).sum() / (mask | truth).sum() > 0.7


def test_a_point_outside_the_micrograph(folder, tmp_path):
    source, encoder = open_source(folder), open_encoder("intensity")
    options = ExtractionOptions(embeddings=str(tmp_path), workers=0)
    with extract(source, encoder, options) as embeddings:
        clicks = Clicks(np.array([[64.0, 160.0]]), np.empty((0, 2)))
        with pytest.raises(InputError, match="y=64 x=160 is outside the micrograph of 128x160 px"):
            support_of(embeddings[source.sha256s[0]], clicks)


@pytest.mark.parametrize(
    "cells",
    [
        np.ones((2, 3), np.float32),
        np.full((1, 4), np.nan, np.float32),
        np.ones(4, np.float32),
        np.ones((1, 4, 1), "f4"),
    ],
)
def test_prototypes_that_do_not_agree_or_are_no_numbers_are_refused(tmp_path, cells):
    save_support(tmp_path / "a", Support(np.ones((2, 4), np.float32), cells), SETTINGS)
    with pytest.raises(InputError, match="holds no prototypes"):
        load_support(tmp_path / "a", SETTINGS)
