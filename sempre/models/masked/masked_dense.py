"""The plain way to encode a masked image: the dense network, with masked cells set to zero wherever they would be seen.

Every layer also computes the masked cells. It is the reference that `PackedEncoder` is tested and timed against.
"""

import torch
from timm.layers.mlp import GlobalResponseNormMlp, Mlp
from timm.models.convnext import ConvNeXt
from torch import Tensor
from torch.nn import functional

from sempre.models.masked.packed import PATCH
from sempre.models.timm_networks import blocks_of, stages_of


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
