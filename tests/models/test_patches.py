import torch

from sempre.models.masked_decoders import patchify, unpatchify
from sempre.models.packed import PATCH


def test_patches_are_squares_in_row_major_order():
    images = torch.arange(2 * 64 * 96, dtype=torch.float32).view(2, 1, 64, 96)
    patches = patchify(images)
    assert patches.shape == (2, 6, PATCH * PATCH)
    torch.testing.assert_close(patches[1, 4].view(PATCH, PATCH), images[1, 0, 32:64, 32:64])
    torch.testing.assert_close(unpatchify(patches, 64, 96), images)
