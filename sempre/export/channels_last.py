"""The detector's trunk with channels last, and 3x3 convolutions by Winograd's algorithm.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: the minimal filtering algorithm
F(4x4, 3x3). ONNX Runtime has direct convolutions only, and its matrix product is as quick as they are.

Every function takes and gives `[H, W, N, C]` (N images or regions), the layout of `WinogradConvolution`.
"""

from typing import TypeGuard, cast

import torch
from timm.layers.mlp import GlobalResponseNormMlp
from timm.models.convnext import ConvNeXt, ConvNeXtBlock, ConvNeXtStage
from torch import Tensor, nn
from torch.nn import functional

from sempre.models.mask_rcnn import TimmPyramid
from sempre.models.timm_networks import blocks_of, downsampling_of, stages_of

INPUT_TRANSFORM = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
FILTER_TRANSFORM = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
OUTPUT_TRANSFORM = [
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
]


class WinogradConvolution(nn.Module):
    """The same function as a 3x3 `nn.Conv2d` of stride 1 and padding 1, for inference, without its bias.

    `forward(x [H, W, N, C]) -> [H, W, N, C_out]`. Channels come last, and images before them, so that a row of
    tiles, over all images, is one matrix of a size that stays in the cache. Agrees with the convolution to about 1e-5
    of the largest output in float32.
    """

    filters: Tensor
    input_transform: Tensor
    output_transform: Tensor

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        ones = convolution.stride, convolution.padding, convolution.dilation
        if convolution.kernel_size != (3, 3) or ones != ((1, 1),) * 3 or convolution.groups != 1:
            raise ValueError(f"{convolution} is not a dense 3x3 convolution of stride 1 and padding 1")
        filters = convolution.weight.detach().double()
        input_rows = torch.tensor(INPUT_TRANSFORM, dtype=torch.float64)
        filter_rows = torch.tensor(FILTER_TRANSFORM, dtype=torch.float64)
        output_rows = torch.tensor(OUTPUT_TRANSFORM, dtype=torch.float64)
        transformed = torch.einsum("ai,ocij,bj->abco", filter_rows, filters, filter_rows)
        self.register_buffer("filters", transformed.flatten(0, 1).float().contiguous())
        self.register_buffer("input_transform", torch.kron(input_rows, input_rows).float())
        self.register_buffer("output_transform", torch.kron(output_rows, output_rows).float())

    def forward(self, x: Tensor) -> Tensor:
        height, width, images, channels = x.shape
        tile_rows, tile_columns = (height + 3) // 4, (width + 3) // 4
        pixels = x.reshape(height * width, images * channels)
        pixels = torch.cat([pixels, torch.zeros_like(pixels[:1])])  # the last row is what lies outside the image
        y, y_inside = _window_positions(tile_rows, height)
        x, x_inside = _window_positions(tile_columns, width)
        index = y[:, :, None, None] * width + x.T[None, None]  # [tile row, 6, 6, tile column]
        index = torch.where(y_inside[:, :, None, None] & x_inside.T[None, None], index, height * width)
        windows = pixels.index_select(0, index.reshape(-1))

        windows = torch.matmul(self.input_transform, windows.reshape(tile_rows, 36, -1))
        products = torch.matmul(windows.reshape(tile_rows, 36, -1, channels), self.filters)
        outputs = torch.matmul(self.output_transform, products.reshape(tile_rows, 36, -1))
        outputs = outputs.reshape(tile_rows, 4, 4, tile_columns, -1).transpose(2, 3)
        outputs = outputs.reshape(tile_rows * 4, tile_columns * 4, images, self.filters.shape[-1])
        return outputs[:height, :width]


def _window_positions(tiles: int, length: int) -> tuple[Tensor, Tensor]:
    """Pixel `[tiles, 6]` under each of a window's six places along one axis, and whether it is inside the image."""
    positions = torch.arange(tiles)[:, None] * 4 + torch.arange(-1, 5)
    return positions, (positions >= 0) & (positions < length)


class GroupNormConvolution(nn.Module):
    """torchvision's `Conv2dNormActivation` of a 1x1 or 3x3 convolution, a group normalisation and perhaps a ReLU."""

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        convolution, *others = layers
        assert isinstance(convolution, nn.Conv2d)
        self.norm = next((layer for layer in others if isinstance(layer, nn.GroupNorm)), None)
        self.bias = convolution.bias
        self.activation = any(isinstance(layer, nn.ReLU) for layer in others)
        if convolution.kernel_size == (1, 1):
            self.convolution = nn.Linear(convolution.in_channels, convolution.out_channels, bias=False)
            self.convolution.weight = nn.Parameter(convolution.weight.detach().flatten(1))
        else:
            self.convolution = WinogradConvolution(convolution)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        if self.bias is not None:
            x = x + self.bias
        if self.norm is not None:
            scale, shift = group_norm_affine(x, self.norm)
            x = x * scale + shift
        return functional.relu(x) if self.activation else x


class ChannelsLastPyramid(nn.Module):
    """`TimmPyramid`: image `[1, 1, H, W]`, H and W multiples of 32, to five maps `[H/s, W/s, 1, C]`, s = 4 to 64."""

    def __init__(self, backbone: TimmPyramid):
        super().__init__()
        self.body = ChannelsLastConvNeXt(backbone.body) if is_convnext(backbone.body) else backbone.body
        self.lateral = nn.ModuleList(GroupNormConvolution(block) for block in backbone.pyramid.inner_blocks)
        self.output = nn.ModuleList(GroupNormConvolution(block) for block in backbone.pyramid.layer_blocks)

    def forward(self, image: Tensor) -> list[Tensor]:
        if isinstance(self.body, ChannelsLastConvNeXt):
            stages = self.body(image)
        else:
            stages = self.body.forward_intermediates(image, intermediates_only=True)
            stages = [stage.permute(2, 3, 0, 1) for stage in stages]
        merged = self.lateral[-1](stages[-1])
        maps = [self.output[-1](merged)]
        for level in reversed(range(len(stages) - 1)):
            height, width, _, channels = merged.shape
            finer = self.lateral[level](stages[level]).reshape(height, 2, width, 2, channels)
            merged = (finer + merged.reshape(height, 1, width, 1, channels)).reshape(height * 2, width * 2, 1, channels)
            maps.insert(0, self.output[level](merged))
        return [*maps, maps[-1][::2, ::2]]


class ChannelsLastConvNeXt(nn.Module):
    """timm's ConvNeXt or ConvNeXtV2 trunk: image `[1, C, H, W]` to four stages `[H/s, W/s, 1, C]`, s = 4 to 32."""

    def __init__(self, body: ConvNeXt):
        super().__init__()
        self.stem = body.stem
        self.stages = body.stages

    def forward(self, image: Tensor) -> list[Tensor]:
        stem, norm = self.stem
        assert isinstance(norm, nn.LayerNorm)
        x = layer_norm(stem(image).permute(2, 3, 0, 1), norm)
        outputs = []
        for stage in cast(list[ConvNeXtStage], self.stages):
            if not isinstance(stage.downsample, nn.Identity):
                norm, convolution = downsampling_of(stage)
                x = halve(layer_norm(x, norm), convolution)
            for block in blocks_of(stage):
                x = x + block_branch(x, block)
            outputs.append(x)
        return outputs


def is_convnext(body: nn.Module) -> TypeGuard[ConvNeXt]:
    """Whether `ChannelsLastConvNeXt` computes `body`: timm's variants with another stem or norm are left to timm."""
    if not isinstance(body, ConvNeXt) or len(body.stem) != 2:
        return False
    return all(isinstance(block.norm, nn.LayerNorm) for stage in stages_of(body) for block in blocks_of(stage))


def block_branch(x: Tensor, block: ConvNeXtBlock) -> Tensor:
    """The residual branch of timm's `ConvNeXtBlock`.

    Global response normalisation multiplies each hidden channel by a number of the image, so it is done to the rows
    of the matrix that follows and not to the hidden map (Woo et al., "ConvNeXt V2", CVPR 2023, algorithm 1).
    """
    y = block.conv_dw(x.permute(2, 3, 0, 1)).permute(2, 3, 0, 1)
    mlp = block.mlp
    hidden = mlp.act(functional.linear(layer_norm(y, block.norm), mlp.fc1.weight.flatten(1), mlp.fc1.bias))
    weight, bias = mlp.fc2.weight.flatten(1).T, mlp.fc2.bias
    assert bias is not None
    if isinstance(mlp, GlobalResponseNormMlp):
        norms = column_sums(hidden * hidden).sqrt()
        scale = 1 + mlp.grn.weight * norms / (norms.mean() + mlp.grn.eps)
        weight, bias = weight * scale.reshape(-1, 1), mlp.grn.bias @ weight + bias
    if block.gamma is not None:
        weight, bias = weight * block.gamma, bias * block.gamma
    return torch.matmul(hidden, weight) + bias


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Layer normalisation over the channels."""
    return functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def halve(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """A 2x2 convolution of stride 2, as one matrix product."""
    height, width, _, channels = x.shape
    squares = x.reshape(height // 2, 2, width // 2, 2, channels).transpose(1, 2)
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)
    squares = squares.reshape(height // 2, width // 2, 1, 4 * channels)
    return functional.linear(squares, weight, convolution.bias)


def group_norm_affine(x: Tensor, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """The scale and shift `[N, C]` by which group normalisation maps x `[H, W, N, C]`."""
    images, channels = x.shape[2:]
    cells = x.shape[0] * x.shape[1] * (channels // norm.num_groups)
    mean = column_sums(x).reshape(images, norm.num_groups, -1).sum(2, keepdim=True) / cells
    square = column_sums(x * x).reshape(images, norm.num_groups, -1).sum(2, keepdim=True) / cells
    deviation = (square - mean * mean).clamp(min=0).add(norm.eps).sqrt()
    scale = norm.weight.reshape(1, norm.num_groups, -1) / deviation
    shift = norm.bias.reshape(1, norm.num_groups, -1) - mean * scale
    return scale.reshape(images, channels), shift.reshape(images, channels)


def column_sums(x: Tensor) -> Tensor:
    """Sum over height and width, `[N, C]`: a product with ones for each row, at memory speed in ONNX Runtime."""
    height, width, images, channels = x.shape
    rows = torch.matmul(torch.ones(1, width), x.reshape(height, width, images * channels))
    return rows.sum(0).reshape(images, channels)
