"""A residual U-Net's way down: the encoder of the dense segmenter that learns from few labels."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from sempre.errors import InputError

# Channels at strides 2, 4, 8, 16 and 32. Multiples of 16, as vector units take them; the deep ones are cheap.
WIDTHS = {
    "unet_small": (16, 32, 64, 96, 160),
    "unet_medium": (32, 48, 96, 192, 320),
}
STRIDES = (2, 4, 8, 16, 32)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, with batch normalisation (He et al., "ResNet", CVPR 2016).

    `[B, inputs, H, W]` becomes `[B, outputs, H / stride, W / stride]`. The shortcut averages before it changes the
    width, so that no pixel is left out (He et al., "Bag of tricks", CVPR 2019, ResNet-D).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity()
        if inputs != outputs or stride > 1:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


class UNetEncoder(nn.Module):
    """`forward(images [B, 1, H, W])` gives maps `[B, C_s, H / s, W / s]` at strides s = 2, 4, 8, 16, 32.

    H and W are multiples of 32. Unlike a ConvNeXtV2, whose first convolution makes one cell of 4x4 px, it has a path
    at stride 2 and batch normalisation throughout. `feature_info` describes the maps, as a timm network's does.

    Raises:
        InputError: for an architecture that is not in `WIDTHS`.
    """

    def __init__(self, architecture: str = "unet_medium", channels: int = 1):
        super().__init__()
        if architecture not in WIDTHS:
            raise InputError(f"architecture={architecture} is no U-Net: choose {' or '.join(WIDTHS)}")
        self.widths, self.channels = WIDTHS[architecture], channels
        width = self.widths[0]
        stem = nn.Sequential(nn.Conv2d(channels, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        levels = [nn.Sequential(stem, ResidualBlock(width, width))]
        for inputs, outputs in pairwise(self.widths):
            levels.append(nn.Sequential(ResidualBlock(inputs, outputs, 2), ResidualBlock(outputs, outputs)))
        self.levels = nn.ModuleList(levels)
        self.feature_info = [
            {"num_chs": width, "reduction": stride} for width, stride in zip(self.widths, STRIDES, strict=True)
        ]

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for level in self.levels:
            images = level(images)
            maps.append(images)
        return maps
