"""Images as rows of the square patches that are hidden or shown, and back."""

from torch import Tensor

from sempre.models.masked.packed import PATCH


def patchify(images: Tensor) -> Tensor:
    """Images `[B, C, H, W]` as rows of patches `[B, H/32 * W/32, 32 * 32 * C]`, row-major, channel last."""
    batch, channels, height, width = images.shape
    patches = images.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, PATCH * PATCH * channels)


def unpatchify(patches: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `patchify` for images of `height` x `width` px."""
    rows, columns = height // PATCH, width // PATCH
    x = patches.reshape(len(patches), rows, columns, PATCH, PATCH, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, height, width)
