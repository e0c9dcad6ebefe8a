import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from sempre.pretraining.masked_autoencoders import mask_and_collate, random_visible


@given(st.integers(2, 400), st.floats(0.01, 0.99), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_masks_are_a_function_of_their_key(patches, ratio, seed, epoch, sample):
    visible = random_visible(patches, ratio, seed, epoch, sample)
    assert len(visible) == min(max(patches - round(patches * ratio), 1), patches - 1)
    assert (np.diff(visible) > 0).all()
    assert visible[0] >= 0
    assert visible[-1] < patches
    np.testing.assert_array_equal(visible, random_visible(patches, ratio, seed, epoch, sample))


def test_masks_differ_between_epochs_and_samples():
    masks = {tuple(random_visible(100, 0.5, 0, epoch, sample)) for epoch in range(4) for sample in range(4)}
    assert len(masks) == 16


def test_a_batch_holds_images_and_the_masks_of_their_keys():
    samples = [{"image": torch.full((1, 64, 64), 7 * k), "sample": k, "epoch": 2} for k in range(3)]
    batch = mask_and_collate(samples, crop=64, mask_ratio=0.5, seed=1)
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 7, 14]
    assert batch["visible"].tolist() == [random_visible(4, 0.5, 1, 2, k).tolist() for k in range(3)]
