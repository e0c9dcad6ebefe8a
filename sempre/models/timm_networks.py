"""What is relied on of timm's networks: stages and blocks with types, and GRN in float32."""

from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from timm.layers.grn import GlobalResponseNorm
from timm.models.convnext import ConvNeXt, ConvNeXtBlock, ConvNeXtStage
from torch import Tensor, nn


class TimmNetwork(nn.Module):
    """A network of stages, from `timm.create_model`. A type alone: timm's classes share nothing but `nn.Module`."""

    if TYPE_CHECKING:
        feature_info: list[dict[str, Any]]
        num_features: int

        def forward_features(self, x: Tensor) -> Tensor: ...

        def forward_intermediates(self, x: Tensor, **arguments: Any) -> list[Tensor]: ...


def stages_of(network: ConvNeXt) -> list[ConvNeXtStage]:
    return cast(list[ConvNeXtStage], list(network.stages))


def blocks_of(stage: ConvNeXtStage) -> list[ConvNeXtBlock]:
    return cast(list[ConvNeXtBlock], list(stage.blocks))


def depthwise_of(block: ConvNeXtBlock) -> nn.Conv2d:
    return cast(nn.Conv2d, block.conv_dw)


def downsampling_of(stage: ConvNeXtStage) -> tuple[nn.LayerNorm, nn.Conv2d]:
    """What halves the map before a stage's blocks; the first stage has `nn.Identity` in its place."""
    norm, convolution = stage.downsample.children()
    return cast(nn.LayerNorm, norm), cast(nn.Conv2d, convolution)


Network = TypeVar("Network", bound=nn.Module)


class Float32GlobalResponseNorm(GlobalResponseNorm):
    """timm's `GlobalResponseNorm` (Woo et al., "ConvNeXt V2", CVPR 2023) with its statistics in float32.

    A sum of squares over a whole feature map overflows float16 and loses its digits in bfloat16; under autocast the
    pretrained networks then give NaN. Parameters keep their names and are shared, not copied.

    Args:
        source: the module that it takes the place of.
        scope: "image" takes the norm over each image's own cells; "batch" over the batch, as the original sparse code.
    """

    def __init__(self, source: GlobalResponseNorm, scope: str = "image"):
        nn.Module.__init__(self)
        self.eps, self.spatial_dim, self.channel_dim = source.eps, source.spatial_dim, source.channel_dim
        self.wb_shape = source.wb_shape
        self.weight, self.bias = source.weight, source.bias
        self.norm_dim = (0, *self.spatial_dim) if scope == "batch" else self.spatial_dim

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            norm = torch.linalg.vector_norm(x, dim=self.norm_dim, keepdim=True, dtype=torch.float32)
            relative = norm / (norm.mean(dim=self.channel_dim, keepdim=True) + self.eps)
            scale = 1 + self.weight.view(self.wb_shape) * relative
        return torch.addcmul(self.bias.view(self.wb_shape).to(x.dtype), x, scale.to(x.dtype))


def use_float32_grn(network: Network, scope: str = "image") -> Network:
    """Give every GRN of `network` float32 statistics, in place; returns the network."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, GlobalResponseNorm):
                setattr(module, name, Float32GlobalResponseNorm(child, scope))
    return network
