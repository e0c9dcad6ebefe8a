"""A small U-Net for foreground masks, and its losses."""

import torch
from torch import Tensor, nn
from torch.nn import functional

LOSSES = ("bce_dice", "cross_entropy", "l1")
EMPTY = 1.0  # px; what Dice's numerator and denominator both gain


class UNet(nn.Module):
    """As many levels down as up; `forward(images [B, channels, H, W])` gives logits `[B, 1, H, W]` for any H and W.

    Each level has two 3x3 convolutions, each with batch normalisation and ReLU; the way up concatenates what the way
    down had at that level (Ronneberger et al., "U-Net", MICCAI 2015). Unlike there the convolutions are padded, so
    that no border is lost; images whose sides do not halve so often are continued by their last pixels meanwhile.

    Args:
        channels: of the images.
        width: channels of the first level; each level down has twice as many.
        levels: halvings of the resolution, with as many blocks on the way down, one between, and as many on the way up.
    """

    def __init__(self, channels: int, width: int = 32, levels: int = 2):
        super().__init__()
        widths = [width << level for level in range(levels + 1)]
        inputs = [channels, *widths]
        self.down = nn.ModuleList(_convolutions(inputs[level], widths[level]) for level in range(levels))
        self.bottom = _convolutions(widths[-2], widths[-1])
        upwards = list(reversed(range(levels)))
        self.upsample = nn.ModuleList(
            nn.ConvTranspose2d(widths[level + 1], widths[level], kernel_size=2, stride=2) for level in upwards
        )
        self.up = nn.ModuleList(_convolutions(2 * widths[level], widths[level]) for level in upwards)
        self.head = nn.Conv2d(width, 1, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        multiple = 1 << len(self.down)
        x = functional.pad(images, (0, -width % multiple, 0, -height % multiple), "replicate")
        skipped = []
        for block in self.down:
            skipped.append(block(x))
            x = functional.max_pool2d(skipped[-1], 2)
        x = self.bottom(x)
        for upsample, block in zip(self.upsample, self.up, strict=True):
            x = block(torch.cat([skipped.pop(), upsample(x)], dim=1))
        return self.head(x)[:, :, :height, :width]


def bce_dice(logits: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Half binary cross-entropy, half soft Dice loss, of logits and masks `[B, 1, H, W]`, in float32.

    The cross-entropy is the mean over all px. The Dice loss is 1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1) of each
    image's probabilities p and truth t, averaged over the images (Milletari et al., "V-Net", 3DV 2016, with sums in
    place of sums of squares). The ones make it 0 where the truth is empty and nothing is predicted.

    Returns:
        `loss`, the mean of `cross_entropy` and `dice_loss`; scalars.
    """
    logits, masks = logits.float(), masks.float()
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, masks)
    probabilities = logits.sigmoid()
    shared = (probabilities * masks).sum((1, 2, 3))
    total = probabilities.sum((1, 2, 3)) + masks.sum((1, 2, 3))
    dice_loss = (1 - (2 * shared + EMPTY) / (total + EMPTY)).mean()
    return {
        "loss": 0.5 * cross_entropy + 0.5 * dice_loss,
        "cross_entropy": cross_entropy,
        "dice_loss": dice_loss,
    }


def mask_losses(logits: Tensor, masks: Tensor, name: str = "bce_dice") -> dict[str, Tensor]:
    """One of the `LOSSES` of logits and masks `[B, 1, H, W]`, in float32, as `loss`.

    `cross_entropy` is the binary one, the mean over all px, as in the U-Net's own paper; `l1` the mean absolute
    difference of probabilities and masks.
    """
    if name == "bce_dice":
        return bce_dice(logits, masks)
    logits, masks = logits.float(), masks.float()
    if name == "cross_entropy":
        return {"loss": functional.binary_cross_entropy_with_logits(logits, masks)}
    return {"loss": functional.l1_loss(logits.sigmoid(), masks)}


class UNetLoss(nn.Module):
    """The losses of a network on a batch of images `[B, C, H, W]` and masks `[B, 1, H, W]`, one of the `LOSSES`."""

    def __init__(self, network: UNet, loss: str):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return mask_losses(self.network(image), mask, self.loss)


def _convolutions(channels: int, width: int) -> nn.Sequential:
    layers = []
    for inputs in (channels, width):
        # The normalisation has its own shift, so the convolution needs none.
        layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
