"""The decoder that paints hidden patches from the maps of all scales of the visible ones."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from sempre.models.masked.patches import patchify
from sempre.models.unet_encoder import ResidualBlock


class SparKDecoder(nn.Module):
    """A light U-Net's way up (Tian et al., "Designing BERT for convolutional networks", ICLR 2023, section 3.2).

    `forward(maps, visible [B, K])` takes an encoder's maps `[B, C_s, H / s, W / s]` at strides s = 2, 4, 8, 16, 32 and
    gives predicted patches `[B, H/32 * W/32, 32 * 32 * channels]`, in the order of `patchify`. At every scale the
    hidden cells are filled with a learned embedding, the scale's own. It ends at stride 2, where each cell predicts 2x2
    px: at full resolution it would cost more than the encoder.

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
        self.prediction = nn.Sequential(nn.Conv2d(own[0], 4 * channels, 1), nn.PixelShuffle(2))
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
