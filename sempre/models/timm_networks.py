"""What is relied on of timm's networks, with types: timm's own end at `nn.Module` and at `nn.Sequential`."""

from typing import TYPE_CHECKING, Any, cast

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
