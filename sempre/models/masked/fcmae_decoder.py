"""The decoder that paints hidden patches from the features of the visible ones."""

import torch
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from sempre.models.masked.packed import PATCH


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
