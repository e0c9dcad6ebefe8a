"""Global response normalisation whose norm is taken in float32."""

from typing import TypeVar

import torch
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn

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
