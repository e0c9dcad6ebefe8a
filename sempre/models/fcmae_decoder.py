"""The decoder that paints hidden patches from the features of the visible ones."""

import torch
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from sempre.models.packed import PATCH


class FCMAEDecoder(nn.Module):
    """One ConvNeXtV2 block and a linear prediction for each patch (Woo et al., "ConvNeXt V2", CVPR 2023).

    `forward(features [B, C, h, w], visible [B, K])` gives predicted patches `[B, h * w, PATCH * PATCH * channels]`,
    rows in row-major order of the patches, each row in the order of `patchify`.
    """

    def __init__(self, features: int, width: int = 512, channels: int = 1):
        super().__init__()
        self.projection = nn.Conv2d(features, width, kernel_size=1)
        self.mask_token = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.block = ConvNeXtBlock(width, use_grn=True, ls_init_value=None)
        self.prediction = nn.Conv2d(width, PATCH * PATCH * channels, kernel_size=1)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, features: Tensor, visible: Tensor) -> Tensor:
        batch, _, height, width = features.shape
        shown = torch.zeros(batch, height * width, dtype=torch.bool, device=features.device)
        shown = shown.scatter(1, visible, True).view(batch, 1, height, width)
        x = self.projection(features)
        x = torch.where(shown, x, self.mask_token.to(x.dtype))
        return self.prediction(self.block(x)).flatten(2).transpose(1, 2)


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
