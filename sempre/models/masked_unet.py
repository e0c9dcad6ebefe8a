"""The U-Net's encoder on the visible patches only, so that a convolutional network can be pretrained by masking.

Tian et al., "Designing BERT for convolutional networks: sparse and hierarchical masked modeling" (SparK), ICLR 2023. A
hidden cell is zero after every layer, or convolutions would carry pixels into it and the mask's outline would fade; and
batch statistics are those of the visible cells, or they would depend on how much is hidden.

The mask's patches are as large as the total stride, so at every level a visible patch is a full square tile, packed as
in `sempre.models.packed`: `[B, C, K * t, t]`. Normalisation, activation and the shortcut (averages of 2x2 cells,
which never cross a tile's edge, and a 1x1 convolution) run on the tiles as they are. So torch's own batch normalisation
takes its statistics over the visible cells, in training and as running averages. Only the other convolutions see
neighbours: scatter, convolve, gather; or, at the fine levels, convolve each tile with a margin of its neighbours around
it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sempre.errors import InputError
from sempre.models.packed import PATCH, GatherRows, cell_rows, pack_pixels, scatter_rows
from sempre.models.unet_encoder import ResidualBlock, UNetEncoder


class MaskedUNetEncoder(nn.Module):
    """Runs a `UNetEncoder` on the visible patches only, sharing (not copying) its parameters and running statistics.

    `forward(images [B, C, H, W], visible [B, K])` gives its maps `[B, C_s, H / s, W / s]` at strides s = 2 to 32, zero
    at hidden cells. `visible` holds the row-major ids of the visible patches of each image; H and W are multiples of
    32. With every patch visible it is the network itself.

    Raises:
        InputError: for images whose sides 32 does not divide.
    """

    def __init__(self, network: UNetEncoder):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, visible: Tensor) -> list[Tensor]:
        height, width = images.shape[2:]
        if height % PATCH or width % PATCH:
            raise InputError(f"images of {height}x{width} px have no whole number of {PATCH} px patches")
        tiles = Tiles(visible, (height // PATCH, width // PATCH))
        x, maps = pack_pixels(images, visible), []
        for level in self.network.levels:
            for part in level.children():
                x = _residual(part, x, tiles) if isinstance(part, ResidualBlock) else _convolved(part, x, tiles)
            maps.append(tiles.scatter(x))
        return maps


@dataclass(frozen=True)
class Tiles:
    """Where packed tiles `[B, C, K * t, t]` lie: patch ids `visible [B, K]` in a `grid` of rows and columns."""

    visible: Tensor
    grid: tuple[int, int]

    def convolve(self, convolution: nn.Conv2d, x: Tensor) -> Tensor:
        """The tiles of what a convolution makes of the map, or of windows around each tile where these are less."""
        tile, margin = x.shape[-1], int(convolution.padding[0])
        if self.visible.shape[1] * (tile + 2 * margin) ** 2 >= self.grid[0] * self.grid[1] * tile**2:
            return self.gather(convolution(self.scatter(x)))
        windows = self.windows(x, margin)
        y = functional.conv2d(windows, convolution.weight, convolution.bias, convolution.stride)
        return y.permute(0, 2, 3, 1).reshape(len(x), -1, y.shape[3], y.shape[1]).permute(0, 3, 1, 2)

    def scatter(self, x: Tensor) -> Tensor:
        """The map `[B, C, H', W']`, zero where hidden."""
        tile = x.shape[-1]
        size = len(x), self.grid[0] * tile, self.grid[1] * tile
        return scatter_rows(x.permute(0, 2, 3, 1), cell_rows(self.visible, self.grid, tile), size).permute(0, 3, 1, 2)

    def gather(self, dense: Tensor) -> Tensor:
        """The tiles of a map `[B, C, H', W']`."""
        tile = dense.shape[-1] // self.grid[1]
        cells = dense.permute(0, 2, 3, 1).reshape(-1, dense.shape[1])
        x = GatherRows.apply(cells, cell_rows(self.visible, self.grid, tile))
        return x.view(len(dense), -1, tile, dense.shape[1]).permute(0, 3, 1, 2)

    def windows(self, x: Tensor, margin: int) -> Tensor:
        """Each tile with `margin` cells of the map around it, zero where hidden or outside: `[B * K, C, t', t']`."""
        batch, channels, _, tile = x.shape
        rows = cell_rows(self.visible, self.grid, tile)
        cells = functional.pad(x.permute(0, 2, 3, 1).reshape(-1, channels), (0, 0, 0, 1))  # the last one is zero
        # Of each cell of the map, with a margin, where it is packed.
        packed = torch.full((batch * self.grid[0] * tile * self.grid[1] * tile,), len(rows), device=x.device)
        packed = packed.index_copy(0, rows, torch.arange(len(rows), device=x.device))
        packed = packed.view(batch, self.grid[0] * tile, self.grid[1] * tile)
        packed = functional.pad(packed, (margin, margin, margin, margin), value=len(rows))
        side = tile + 2 * margin
        packed = packed.unfold(1, side, tile).unfold(2, side, tile).reshape(batch, -1, side * side)
        packed = packed.gather(1, self.visible[:, :, None].expand(-1, -1, side * side))
        return cells.index_select(0, packed.flatten()).view(-1, side, side, channels).permute(0, 3, 1, 2)


def _convolved(layers: nn.Module, x: Tensor, tiles: Tiles) -> Tensor:
    """A convolution, which sees the neighbours, then the other layers, tile by tile."""
    convolution, *others = layers.children()
    assert isinstance(convolution, nn.Conv2d)
    return nn.Sequential(*others)(tiles.convolve(convolution, x))


def _residual(block: ResidualBlock, x: Tensor, tiles: Tiles) -> Tensor:
    y = _convolved(block.second, _convolved(block.first, x, tiles), tiles)
    return functional.relu(y + block.shortcut(x))
