import numpy as np
import pytest

from sempre.metrics import label_overlap, score_sample
from sempre.segmentation.watershed import otsu_watershed, split_touching
from sempre.synthetic import render_field


def discs(shape: tuple[int, int], *circles: tuple[int, int, int]) -> np.ndarray:
    """A mask of discs (y, x, radius)."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.any([(y - cy) ** 2 + (x - cx) ** 2 <= radius**2 for cy, cx, radius in circles], axis=0)


def test_touching_discs_are_parted_between_their_centres():
    mask = discs((60, 100), (30, 30, 18), (30, 64, 18))
    labels = split_touching(mask)
    assert labels[30, 30] != labels[30, 64]
    np.testing.assert_array_equal(labels > 0, mask)
    left, right = labels == labels[30, 30], labels == labels[30, 64]
    assert left[:, :46].sum() > 0.99 * mask[:, :46].sum()
    assert right[:, 49:].sum() > 0.99 * mask[:, 49:].sum()


def test_holes_are_filled_and_specks_dropped():
    mask = discs((60, 100), (30, 30, 18), (30, 80, 2)) & ~discs((60, 100), (30, 30, 5))
    labels = split_touching(mask, smallest=30)
    assert labels[30, 30] > 0
    assert labels[30, 80] == 0
    assert split_touching(mask, smallest=10)[30, 80] > 0


def test_an_empty_mask_has_no_instance_and_a_full_one_has_one():
    assert split_touching(np.zeros((20, 30), bool)).max() == 0
    np.testing.assert_array_equal(split_touching(np.ones((20, 30), bool)), np.ones((20, 30)))
    assert split_touching(np.ones((4, 5), bool), smallest=30).max() == 0


@pytest.mark.parametrize("inverted", [False, True])
def test_otsu_finds_particles_brighter_or_darker_than_the_ground(inverted):
    mask = discs((60, 100), (30, 30, 18), (30, 64, 18))
    noise = np.random.default_rng(0).normal(0, 0.05, mask.shape)
    pixels = (mask != inverted) + noise
    labels = otsu_watershed(pixels)
    assert len(np.unique(labels)) == 3
    assert np.mean((labels > 0) == mask) > 0.99
    assert otsu_watershed(np.full((20, 30), 0.5)).max() == 0


def test_a_rendered_field_is_segmented_well():
    field = render_field(0, (192, 192))
    assert score_sample(label_overlap(field.labels, otsu_watershed(field.pixels)))["aji_plus"] > 0.5
