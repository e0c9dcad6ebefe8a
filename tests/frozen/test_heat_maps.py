import numpy as np
import pytest

from sempre.errors import InputError
from sempre.frozen.embedding_file import Embedding
from sempre.frozen.encoder import Grid
from sempre.frozen.heat_maps import HeatMaps, fit_heat_maps, fit_own_heat_maps


def micrograph(number: int, columns: slice = slice(2, 4)) -> tuple[Embedding, np.ndarray]:
    """4x6 cells of 8 px, of which some columns look otherwise than the rest; and the mask of these."""
    random = np.random.default_rng(number)
    mask = np.zeros((32, 48), bool)
    mask[:, columns.start * 8 : columns.stop * 8] = True
    cells = np.where(mask[4::8, 4::8, None], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]) + random.normal(
        scale=0.1, size=(4, 6, 3)
    )
    return Embedding(f"{number:064x}", Grid(32, 48, 32, 48, 8), cells.astype(np.float32), None), mask


def fit(*micrographs: tuple[Embedding, np.ndarray], **changes) -> HeatMaps:
    options = {"points": 6, "margin": 2.0, "count": 1} | changes
    return fit_heat_maps(*zip(*micrographs, strict=True), **options)


def test_a_map_is_high_on_particles_of_micrographs_not_seen_before():
    maps = fit(micrograph(0), micrograph(1))
    embedding, mask = micrograph(2, slice(0, 3))
    heat = maps(embedding)
    assert heat.shape == (32, 48)
    assert heat[mask].mean() > heat[~mask].mean() + 1
    assert ((heat > 0) == mask).mean() > 0.9


def test_the_scale_is_that_of_the_fitted_micrographs_cells():
    known = [micrograph(0), micrograph(1)]
    maps = fit(*known, count=2, weight=0.5)
    scores = []
    for embedding, _ in known:
        directions = embedding.cells / np.linalg.norm(embedding.cells, axis=-1, keepdims=True)
        like, unlike = ((directions @ side.T).max(-1) for side in (maps.positive, maps.negative))
        scores.append(like - 0.5 * unlike)
    assert maps.mean == pytest.approx(np.mean(scores), abs=1e-5)
    assert maps.std == pytest.approx(np.std(scores), rel=1e-4)


def test_maps_are_at_the_size_that_was_embedded():
    embedding, mask = micrograph(0)
    smaller = Embedding(embedding.sha256, Grid(64, 96, 32, 48, 8), embedding.cells, None)
    maps = fit((smaller, np.kron(mask, np.ones((2, 2), bool))))
    assert maps(smaller).shape == (32, 48)


def test_micrographs_without_particles_or_background():
    embedding, mask = micrograph(0)
    with pytest.raises(InputError, match=r"the 1 micrographs .* show no particles"):
        fit((embedding, np.zeros_like(mask)))
    with pytest.raises(InputError, match="show no background"):
        fit((embedding, np.ones_like(mask)))


def test_points_of_each_micrograph_find_what_those_of_others_do_not():
    """In another sample what is sought looks as the ground does here."""
    common = fit(micrograph(0), micrograph(1))
    embedding, mask = micrograph(2)
    other = Embedding(embedding.sha256, embedding.grid, embedding.cells[..., [1, 0, 2]].copy(), None)
    own = fit_own_heat_maps([other], [mask], common, points=6, margin=2.0, count=1)
    heats = {"common": common(other), "own": own(other)}
    assert heats["common"][mask].mean() < heats["common"][~mask].mean()
    assert heats["own"][mask].mean() > heats["own"][~mask].mean() + 1
    empty = fit_own_heat_maps([other], [np.zeros_like(mask)], common, points=6, margin=2.0, count=1)
    np.testing.assert_array_equal(empty(other), common(other))
