"""A network for colour images as the same network for grey ones."""

from collections.abc import Sequence

import torch
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from sempre.images.normalise import MEAN, STD


def grey_stem(
    weight: Tensor, bias: Tensor | None, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """A colour stem `[C, 3, p, p]`, `[C]` as one for micrographs: `[C, 1, p, p]`, `[C]`.

    A grey image is a colour image of three equal channels, to which the sum of the kernels answers as the three do; the
    mean would answer a third of it. The network was trained on levels normalised channel by channel with `mean` and
    `std`, ours are normalised with `MEAN` and `STD`: kernels and bias take up the difference. So the network answers to
    a micrograph exactly as the original does to the grey picture.
    """
    means, stds = (weight.new_tensor(values)[:, None, None] for values in (mean, std))
    shift = (weight * (MEAN - means) / stds).sum((1, 2, 3))
    return (weight * STD / stds).sum(1, keepdim=True), shift if bias is None else bias + shift


@torch.no_grad()
def to_one_channel(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """Make a ConvNeXtV2 or vision transformer of timm take one channel of our normalisation, by `grey_stem`.

    The network is changed in place, and returned; `mean` and `std` are of the channels that it took.
    """
    parent, name = (network.stem, "0") if isinstance(network, ConvNeXt) else (network.patch_embed, "proj")
    first = getattr(parent, name)
    grey = nn.Conv2d(1, first.out_channels, first.kernel_size, first.stride)
    weight, bias = grey_stem(first.weight, first.bias, mean, std)
    grey.load_state_dict({"weight": weight, "bias": bias})
    setattr(parent, name, grey.to(first.weight.device))
    return network
