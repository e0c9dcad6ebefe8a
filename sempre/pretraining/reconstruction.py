"""The objective of fine-tuning by reconstruction: a backbone's last layers learn to keep what is in a micrograph."""

from itertools import pairwise
from typing import Annotated, cast

from timm.models.convnext import ConvNeXt
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from sempre.data.crops import normalise_batch
from sempre.models.encoders import feature_map
from sempre.models.timm_networks import TimmNetwork, stages_of, use_float32_grn
from sempre.ranges import OneOf

UPSAMPLINGS = 3
UPSAMPLING = ("bilinear", "transposed")
Upsampling = Annotated[str, OneOf(*UPSAMPLING)]
NARROWEST = 16  # channels of the decoder, at the least


class Reconstruction(nn.Module):
    """A mostly frozen backbone and a decoder; `forward(image [B, 1, H, W])` gives `{"loss"}`.

    Images are uint8 as stored, or already normalised. The loss is the mean absolute difference (L1) of micrograph and
    reconstruction, in float32 and in units of the normalised grey values. Nothing is hidden: what the last layers must
    learn is not to drop what distinguishes one place of a micrograph from another.

    Of the backbone the last `layers` blocks learn: of a vision transformer's blocks, or of a ConvNeXtV2's last stage.
    All else of it, its norms too, stays as it is.

    Args:
        network: headless ConvNeXtV2 or vision transformer of timm, of one channel.
        layers: blocks that learn.
        width: channels of the decoder's first block.
        upsampling: of the decoder, one of `UPSAMPLING`.
    """

    def __init__(self, network: nn.Module, layers: int = 2, width: int = 256, upsampling: str = "bilinear"):
        super().__init__()
        self.network = use_float32_grn(network)
        network.requires_grad_(False)
        for block in last_blocks(network, layers):
            block.requires_grad_(True)
        channels = cast(TimmNetwork, network).feature_info[-1]["num_chs"]
        self.decoder = ReconstructionDecoder(channels, width, upsampling)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        image = normalise_batch(image)
        return {"loss": functional.l1_loss(self.reconstruct(image), image)}

    def reconstruct(self, image: Tensor) -> Tensor:
        """Reconstructions, float32 `[B, 1, H, W]`, of normalised images of this size."""
        return self.decoder(feature_map(self.network, image), image.shape[2:]).float()


class ReconstructionDecoder(nn.Module):
    """Three blocks that double the resolution, and a resize over what is left of the stride.

    A block is a `bilinear` upsampling, which leaves no chequerboard (Odena et al., "Deconvolution and checkerboard
    artifacts", Distill 2016), and a 3x3 convolution; or a `transposed` convolution of stride 2, whose kernels of 2 px
    do not overlap, and a 1x1 convolution (Zöngür, "Unsupervised segmentation of light microscopy images", TU München,
    2023). Batch normalisation and ReLU follow; each block has half the channels of the one before.
    `forward(features [B, C, h, w], (H, W))` gives images `[B, 1, H, W]`.
    """

    def __init__(self, features: int, width: int, upsampling: str = "bilinear"):
        super().__init__()
        widths = [features, *(max(NARROWEST, width >> block) for block in range(UPSAMPLINGS))]
        layers = []
        for inputs, outputs in pairwise(widths):
            if upsampling == "bilinear":
                layers += [nn.Upsample(scale_factor=2, mode="bilinear")]
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
            else:
                layers += [nn.ConvTranspose2d(inputs, outputs, kernel_size=2, stride=2)]
                layers += [nn.Conv2d(outputs, outputs, kernel_size=1, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        self.blocks = nn.Sequential(*layers)
        self.prediction = nn.Conv2d(widths[-1], 1, kernel_size=1)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return functional.interpolate(self.prediction(self.blocks(features)), tuple(size), mode="bilinear")


def last_blocks(network: nn.Module, count: int) -> list[nn.Module]:
    """The last `count` blocks, at most all, of a vision transformer or of a ConvNeXtV2's last stage."""
    if isinstance(network, VisionTransformer):
        return list(network.blocks)[-count:]
    assert isinstance(network, ConvNeXt)
    return list(stages_of(network)[-1].blocks)[-count:]
