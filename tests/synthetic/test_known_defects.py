"""Rendered samples with known defects."""

import numpy as np
import pytest

from sempre.errors import InputError
from sempre.synthetic.known_defects import SAMPLES, render_sample

SIZE = (320, 384)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_same_seed_gives_the_same_sample_with_defects_inside(name):
    sample, again = render_sample(name, 4, SIZE), render_sample(name, 4, SIZE)
    np.testing.assert_array_equal(sample.pixels, again.pixels)
    assert (sample.pixels.shape, sample.pixels.dtype) == (SIZE, np.uint8)
    defects = sample.defects
    assert len(defects.kinds) >= 1
    assert (defects.sites >= 0).all()
    assert (defects.sites < SIZE).all()
    assert set(defects.owner) == set(range(len(defects.kinds)))
    assert defects.weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.bincount(defects.owner, defects.weights), 1 / len(defects.kinds))
    assert not np.array_equal(render_sample(name, 5, SIZE).pixels, sample.pixels)


def test_vacancies_are_dark_and_substitutions_bright_where_the_lattice_says():
    sample = render_sample("perovskite", 0, (512, 512))
    shown = {"vacancy": [], "substitution": []}
    for kind, (y, x) in zip(sample.defects.kinds, sample.defects.sites, strict=True):
        row, column = round(y), round(x)
        shown[kind].append(sample.pixels[row - 1 : row + 2, column - 1 : column + 2].mean())
    assert np.mean(shown["vacancy"]) + 60 < np.mean(shown["substitution"])


def test_cracks_and_pores_are_dark_where_they_are():
    sample = render_sample("film", 1, (512, 512))
    rows, columns = np.rint(sample.defects.sites).astype(int).T
    pores = np.array([sample.defects.kinds[owner] == "pore" for owner in sample.defects.owner])
    assert pores.any()
    assert sample.pixels[rows[pores], columns[pores]].mean() < np.median(sample.pixels) - 30


def test_what_cannot_be_rendered():
    with pytest.raises(InputError, match="sample rust is unknown: choose perovskite, particles, film"):
        render_sample("rust", 0)
    with pytest.raises(InputError, match="give at least 256x256"):
        render_sample("film", 0, (128, 512))
