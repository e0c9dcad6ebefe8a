import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import skeletonize

from sempre.errors import InputError
from sempre.images.levels import to_grey
from sempre.synthetic import render_fungus

SIZE = (160, 192)


@pytest.fixture(scope="module")
def fields():
    return [render_fungus(seed, SIZE) for seed in range(6)]


def test_a_seed_gives_the_same_bytes_and_another_one_others(fields):
    again = render_fungus(3, SIZE)
    np.testing.assert_array_equal(again.pixels, fields[3].pixels)
    np.testing.assert_array_equal(again.labels, fields[3].labels)
    assert not np.array_equal(fields[3].pixels, fields[4].pixels)


def test_micrographs_are_coloured_and_every_instance_has_a_kind(fields):
    for field in fields:
        assert field.pixels.shape == (*SIZE, 3) and field.pixels.dtype == np.uint8
        assert np.unique(field.labels[field.labels > 0]).tolist() == list(range(1, len(field.kinds) + 1))
    assert {kind for field in fields for kind in field.kinds} == {"hypha", "arbuscule", "vesicle"}


def test_the_fungus_is_stained_blue(fields):
    blueness = [field.pixels[..., 2].astype(float) - field.pixels[..., 0] for field in fields]
    for blue, field in zip(blueness, fields, strict=True):
        assert blue[field.labels > 0].mean() > blue[field.labels == 0].mean() + 10


def test_dark_is_not_enough_to_find_it(fields):
    """Walls and vessels are as dark: a threshold on the grey values cannot do what one on colours can."""
    darker = [to_grey(field.pixels) < np.percentile(to_grey(field.pixels)[field.labels > 0], 50) for field in fields]
    ground = [np.mean(field.labels[dark] == 0) for dark, field in zip(darker, fields, strict=True)]
    assert np.mean(ground) > 0.1


def test_hyphae_are_thin_and_branch(fields):
    for field in fields:
        hyphae = np.isin(field.labels, 1 + np.flatnonzero(np.array(field.kinds) == "hypha"))
        assert np.percentile(ndimage.distance_transform_edt(hyphae)[hyphae], 95) < 6
    lines = [skeletonize(field.labels > 0) for field in fields]
    neighbours = [ndimage.convolve(line.astype(int), np.ones((3, 3), int), mode="constant") for line in lines]
    assert sum(((count > 3) & line).sum() for count, line in zip(neighbours, lines, strict=True)) > 50


def test_a_root_without_the_fungus_is_the_same_root():
    bare, infected = render_fungus(0, SIZE, infected=False), render_fungus(0, SIZE)
    assert not bare.labels.any() and bare.kinds == ()
    away = ndimage.distance_transform_edt(infected.labels == 0) > 20
    np.testing.assert_allclose(bare.pixels[away], infected.pixels[away], atol=2)


@pytest.mark.parametrize(("seed", "size"), [(-1, (64, 64)), (2**64, (64, 64)), (0, (63, 64))])
def test_what_is_out_of_range(seed, size):
    with pytest.raises(InputError, match=r"is (out of range|too small)"):
        render_fungus(seed, size)
