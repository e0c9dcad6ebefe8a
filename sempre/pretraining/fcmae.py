"""The objective of the fully convolutional masked autoencoder (FCMAE): paint the hidden part of a micrograph.

Woo et al., "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders", CVPR 2023.
"""

from torch import nn

from sempre.models.grn import use_float32_grn
from sempre.models.masked.fcmae_decoder import FCMAEDecoder
from sempre.models.masked.packed import PackedEncoder
from sempre.pretraining.masked_autoencoder import MaskedAutoencoder


class FCMAE(MaskedAutoencoder):
    """A masked autoencoder whose encoder is a timm ConvNeXtV2, `network`.

    `grn_scope` "batch" takes GRN's norm over the batch, as the original sparse code does, to continue from its weights.

    Raises:
        InputError: as `PackedEncoder` does.
    """

    def __init__(
        self,
        network: nn.Module,
        decoder_width: int = 512,
        normalise_target: bool = True,
        grn_scope: str = "image",
        encoder: type[PackedEncoder] = PackedEncoder,
    ):
        packed = encoder(use_float32_grn(network, grn_scope))
        packed.network.head.requires_grad_(False)  # takes no part in pretraining, but belongs to timm's network
        stem = packed.network.stem[0]
        assert isinstance(stem, nn.Conv2d)
        decoder = FCMAEDecoder(packed.network.feature_info[-1]["num_chs"], decoder_width, stem.in_channels)
        super().__init__(packed, use_float32_grn(decoder, grn_scope), normalise_target)
