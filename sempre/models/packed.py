"""The sparse encoder of masked image modelling, packed; and the plain dense network that it equals.

The mask is made of 32x32 px patches and the encoder's total stride is 32, so at every stage a visible patch is a full
square tile (8, 4, 2, 1 cells wide), and every image of a batch shows the same number K of them. The sparse tensor is
then a dense one of static shape, `[B, K * t, t, C]`. Normalisation, MLP, stem and downsampling never look across a tile
and run on it as they are; only the 7x7 depthwise convolutions see neighbours: scatter, convolve, gather. The result is
that of submanifold sparse convolution (Graham et al., CVPR 2018), as in Woo et al., "ConvNeXt V2", CVPR 2023.

Every layer also computes the masked cells. It is the reference that `PackedEncoder` is tested and timed against.
"""

import torch
from timm.layers.mlp import GlobalResponseNormMlp, Mlp
from timm.models.convnext import ConvNeXt, ConvNeXtBlock
from torch import Tensor, nn
from torch.nn import functional

from sempre.errors import InputError
from sempre.models.timm_networks import blocks_of, stages_of

PATCH = 32  # px, the encoder's total stride


class PackedEncoder(nn.Module):
    """Runs a timm ConvNeXt on the visible patches only, sharing (not copying) its parameters.

    `forward(images [B, C, H, W], visible [B, K])` gives `[B, C_last, H/32, W/32]`, zero at masked cells. `visible`
    holds the row-major ids of the visible patches of each image; H and W are multiples of 32.

    Raises:
        InputError: for a network that is no timm ConvNeXt of total stride 32, or images whose sides 32 does not divide.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        if not isinstance(network, ConvNeXt) or network.feature_info[-1]["reduction"] != PATCH:
            raise InputError(f"{type(network).__name__} cannot be packed: give a timm ConvNeXt of stride {PATCH}")
        self.network = network
        for stage in stages_of(network):
            stage.blocks = nn.Sequential(*map(PackedBlock, blocks_of(stage)))

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        if height % PATCH or width % PATCH:
            raise InputError(f"images of {height}x{width} px have no whole number of {PATCH} px patches")
        grid = height // PATCH, width // PATCH
        x = self.network.stem(pack_pixels(images, visible))
        tile = PATCH // self.network.feature_info[0]["reduction"]
        rows = cell_rows(visible, grid, tile)
        for stage in stages_of(self.network):
            if not isinstance(stage.downsample, nn.Identity):
                x = stage.downsample(x)
                tile //= 2
                rows = cell_rows(visible, grid, tile)
            x = x.permute(0, 2, 3, 1)
            for block in blocks_of(stage):
                x = block(x, rows, (batch, grid[0] * tile, grid[1] * tile))
            x = x.permute(0, 3, 1, 2)
        return scatter_rows(x.permute(0, 2, 3, 1), rows, (batch, *grid)).permute(0, 3, 1, 2)


class PackedBlock(ConvNeXtBlock):
    """A timm ConvNeXt block in the place of `source`, sharing (not copying) its parameters; it takes packed tiles, too.

    `forward(x)` is timm's. `forward(x [B, K * t, t, C], rows, size)` gives the packed tiles' next features; `rows` are
    from `cell_rows`, `size` is the map's `(B, H', W')`. It is one call for each block, since weights that are sharded
    over processes are gathered by module, as it is called.
    """

    def __init__(self, source: ConvNeXtBlock):
        nn.Module.__init__(self)
        self.__dict__.update(source.__dict__)

    def forward(self, x: Tensor, rows: Tensor | None = None, size: tuple[int, int, int] = (0, 0, 0)) -> Tensor:
        if rows is None:
            return super().forward(x)
        # The convolution sees the whole map, zero where masked; what it gives is wanted at the visible cells.
        dense = scatter_rows(x, rows, size).permute(0, 3, 1, 2)
        y = self.conv_dw(dense).permute(0, 2, 3, 1).reshape(-1, x.shape[-1])
        return x + self.drop_path(branch(self, GatherRows.apply(y, rows).view(x.shape)))


class GatherRows(torch.autograd.Function):
    """`x[rows]` for rows that do not repeat: the gradient is copied to its place, where indexing would add it."""

    @staticmethod
    def forward(ctx, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.length = len(x)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,), (rows,) = gradients, ctx.saved_tensors
        return gradient.new_zeros(ctx.length, gradient.shape[1]).index_copy_(0, rows, gradient), None


def pack_pixels(images: Tensor, visible: Tensor) -> Tensor:
    """The visible patches of `[B, C, H, W]` one below the other: `[B, C, K * 32, 32]`."""
    batch, channels, height, width = images.shape
    rows, columns = height // PATCH, width // PATCH
    patches = images.view(batch, channels, rows, PATCH, columns, PATCH).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(batch, rows * columns, channels, PATCH, PATCH)
    shown = patches[torch.arange(batch, device=images.device)[:, None], visible]
    return shown.transpose(1, 2).reshape(batch, channels, -1, PATCH)


def cell_rows(visible: Tensor, grid: tuple[int, int], tile: int) -> Tensor:
    """Where each packed cell lies in the flattened map `[B * H' * W']`: int64 `[B * K * tile * tile]`.

    Args:
        visible: patch ids `[B, K]`, row-major.
        grid: patches of the image along height and width.
        tile: cells along a patch's side.
    """
    device = visible.device
    batch = torch.arange(len(visible), device=device).view(-1, 1, 1, 1)
    y, x = visible.div(grid[1], rounding_mode="floor"), visible % grid[1]
    inside = torch.arange(tile, device=device)
    y = y.view(*visible.shape, 1, 1) * tile + inside.view(-1, 1)
    x = x.view(*visible.shape, 1, 1) * tile + inside
    return (((batch * grid[0] * tile) + y) * grid[1] * tile + x).flatten()


def scatter_rows(x: Tensor, rows: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Packed cells `[…, C]` at `rows` of a map `[B, H', W', C]` of zeros."""
    channels = x.shape[-1]
    dense = x.new_zeros(size[0] * size[1] * size[2], channels)
    return dense.index_copy(0, rows, x.reshape(-1, channels)).view(*size, channels)


def branch(block: ConvNeXtBlock, x: Tensor) -> Tensor:
    """The rest of a timm ConvNeXt block after its depthwise convolution, `[B, h, w, C]` to the same.

    timm's small networks have 1x1 convolutions here, its large ones linear layers: the same matrix products.
    """
    mlp, norm = block.mlp, block.norm
    x = functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    x = mlp.act(functional.linear(x, mlp.fc1.weight.flatten(1), mlp.fc1.bias))
    if isinstance(mlp, GlobalResponseNormMlp):
        x = mlp.grn(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if block.use_conv_mlp else mlp.grn(x)
    x = functional.linear(x, mlp.fc2.weight.flatten(1), mlp.fc2.bias)
    return x if block.gamma is None else x * block.gamma


def masked_dense_forward(network: ConvNeXt, images: Tensor, visible: Tensor) -> Tensor:
    """Features `[B, C_last, H/32, W/32]` of a timm ConvNeXt for images `[B, C, H, W]` and visible patches `[B, K]`."""
    batch, _, height, width = images.shape
    mask = torch.zeros(batch, (height // PATCH) * (width // PATCH), device=images.device)
    mask = mask.scatter(1, visible, 1.0).view(batch, 1, height // PATCH, width // PATCH)
    x = network.stem(images * _resize(mask, images))
    for stage in stages_of(network):
        x = stage.downsample(x)
        shown = _resize(mask, x)
        x = x * shown
        for block in blocks_of(stage):
            y = block.conv_dw(x)
            if block.use_conv_mlp:
                y = _mlp(block.mlp, block.norm(y), shown)
            else:
                y = _mlp(block.mlp, block.norm(y.permute(0, 2, 3, 1)), shown.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            x = x + block.drop_path(y if block.gamma is None else y * block.gamma.view(1, -1, 1, 1)) * shown
    return x


def _mlp(mlp: GlobalResponseNormMlp | Mlp, x: Tensor, shown: Tensor) -> Tensor:
    # GRN's norm must not see the masked cells, which the first layer's bias has made non-zero.
    x = mlp.act(mlp.fc1(x)) * shown
    return mlp.fc2(mlp.grn(x) if isinstance(mlp, GlobalResponseNormMlp) else x)


def _resize(mask: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(mask, size=like.shape[2:], mode="nearest")
