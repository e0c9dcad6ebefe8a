"""A network for colour images as the same network for grey ones."""

from collections.abc import Sequence

import torch
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
    """Make a network for colour images take one channel of our normalisation, by `grey_stem`.

    The network is changed in place, and returned; `mean` and `std` are of the channels that it took. What the stem's
    bias has to take up goes into the batch normalisation behind it where the stem has no bias. Within the stem's
    padding the answers differ where `mean` is not ours, for zeros stand for another grey there.

    Raises:
        ValueError: for a network whose first convolution does not take as many channels as `mean` has.
    """
    modules = list(network.modules())
    place = next(index for index, module in enumerate(modules) if isinstance(module, nn.Conv2d))
    stem, behind = modules[place], modules[place + 1] if place + 1 < len(modules) else None
    assert isinstance(stem, nn.Conv2d)
    if stem.in_channels != len(mean):
        raise ValueError(f"the first convolution takes {stem.in_channels} channels, not {len(mean)}")
    weight, shift = grey_stem(stem.weight, stem.bias, mean, std)
    stem.weight, stem.in_channels = nn.Parameter(weight), 1
    if stem.bias is not None:
        stem.bias.copy_(shift)
    elif isinstance(behind, nn.BatchNorm2d) and behind.running_mean is not None:
        behind.running_mean -= shift
    return network
