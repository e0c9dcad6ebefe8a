"""A network for colour images as the same network for grey ones."""

from collections.abc import Sequence

import torch
from timm.models.convnext import ConvNeXt
from torch import nn

from sempre.images.normalise import MEAN, STD


@torch.no_grad()
def to_one_channel(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """Make a ConvNeXtV2 or vision transformer of timm take one channel of our normalisation; in place, and returned.

    Grey values x in [0, 1] that were repeated over the channels and entered as (x - mean) / std now enter once, as
    (x - MEAN) / STD. The first layer is linear and its kernels do not overlap the border, so the outputs are the same:
    the kernels of all channels are summed, and what the two normalisations differ by goes into the bias.

    Args:
        mean, std: of the network's channels.
    """
    parent, name = (network.stem, "0") if isinstance(network, ConvNeXt) else (network.patch_embed, "proj")
    first = getattr(parent, name)
    mean, std = (first.weight.new_tensor(values)[:, None, None] for values in (mean, std))
    grey = nn.Conv2d(1, first.out_channels, first.kernel_size, first.stride)
    grey.weight.copy_((first.weight * STD / std).sum(1, keepdim=True))
    grey.bias.copy_((first.weight * (MEAN - mean) / std).sum((1, 2, 3)))
    if first.bias is not None:
        grey.bias.add_(first.bias)
    setattr(parent, name, grey.to(first.weight.device))
    return network
