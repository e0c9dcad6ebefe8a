"""The detector's trunk with channels last: the same parameters, in the layout that a CPU multiplies quickest.

Every function takes and gives `[H, W, N, C]` (N images or regions), the layout of `WinogradConvolution`.
"""

from typing import TypeGuard, cast

import torch
from timm.layers.mlp import GlobalResponseNormMlp
from timm.models.convnext import ConvNeXt, ConvNeXtBlock, ConvNeXtStage
from torch import Tensor, nn
from torch.nn import functional

from sempre.models.export.winograd import WinogradConvolution
from sempre.models.segmenters.mask_rcnn import TimmPyramid
from sempre.models.timm_networks import blocks_of, downsampling_of, stages_of


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
