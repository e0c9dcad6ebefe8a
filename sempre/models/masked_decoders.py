"""The decoders that paint hidden patches (FCMAE's and SparK's), and images as rows of patches."""

from itertools import pairwise

import torch
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.nn import functional

from sempre.models.packed import PATCH
from sempre.models.unet_encoder import ResidualBlock


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


class SparKDecoder(nn.Module):
    """A light U-Net's way up (Tian et al., "Designing BERT for convolutional networks", ICLR 2023, section 3.2).

    `forward(maps, visible [B, K])` takes an encoder's maps `[B, C_s, H / s, W / s]` at strides s up to 32, each twice
    the one before, and gives predicted patches `[B, H/32 * W/32, 32 * 32 * channels]`, in the order of `patchify`. At
    every scale the hidden cells are filled with a learned embedding, the scale's own. It ends at the finest stride, 2
    for example, where each cell predicts 2x2 px: at full resolution it would cost more than the encoder.

    Args:
        widths: channels of the encoder's maps.
        width: channels of the decoder at stride 32; each finer scale has half as many.
        channels: of the image.
    """

    def __init__(self, widths: tuple[int, ...], width: int = 256, channels: int = 1):
        super().__init__()
        own = [width >> halvings for halvings in reversed(range(len(widths)))]
        # Projected first, the embeddings are as slim as the decoder.
        self.projections = nn.ModuleList(nn.Conv2d(*pair, 1) for pair in zip(widths, own, strict=True))
        self.mask_embeddings = nn.ParameterList(torch.zeros(1, slim, 1, 1) for slim in own)
        self.lateral = nn.ModuleList(nn.Conv2d(deep, shallow, 1) for shallow, deep in pairwise(own))
        self.up = nn.ModuleList(ResidualBlock(slim, slim) for slim in own[:-1])
        finest = PATCH >> (len(widths) - 1)  # px a side of a cell of the finest map
        self.prediction = nn.Sequential(nn.Conv2d(own[0], finest**2 * channels, 1), nn.PixelShuffle(finest))
        for embedding in self.mask_embeddings:
            nn.init.normal_(embedding, std=0.02)

    def forward(self, maps: list[Tensor], visible: Tensor) -> Tensor:
        batch, _, *grid = maps[-1].shape
        shown = torch.zeros(batch, grid[0] * grid[1], dtype=torch.bool, device=visible.device)
        shown = shown.scatter(1, visible, True).view(batch, 1, *grid)
        filled = []
        for features, projection, embedding in zip(maps, self.projections, self.mask_embeddings, strict=True):
            x = projection(features)
            cells = x.shape[-1] // grid[1]  # along a patch's side
            here = shown.repeat_interleave(cells, 2).repeat_interleave(cells, 3)
            filled.append(torch.where(here, x, embedding.to(x.dtype)))
        *skipped, x = filled
        for lateral, up, skip in zip(reversed(self.lateral), reversed(self.up), reversed(skipped), strict=True):
            x = up(skip + functional.interpolate(lateral(x), scale_factor=2, mode="bilinear"))
        return patchify(self.prediction(x))
