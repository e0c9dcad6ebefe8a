"""The objective of the fully convolutional masked autoencoder (FCMAE): paint the hidden part of a micrograph.

Woo et al., "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders", CVPR 2023.
"""

from timm.models.convnext import ConvNeXt

from sempre.models.masked.fcmae_decoder import FCMAEDecoder
from sempre.models.masked.grn import use_float32_grn
from sempre.models.masked.packed import PackedEncoder
from sempre.pretraining.masked_autoencoder import MaskedAutoencoder


class FCMAE(MaskedAutoencoder):
    """A masked autoencoder whose encoder is a timm ConvNeXtV2.

    `grn_scope` "batch" takes GRN's norm over the batch, as the original sparse code does, to continue from its weights.
    """

    def __init__(
        self,
        network: ConvNeXt,
        decoder_width: int = 512,
        normalise_target: bool = False,
        grn_scope: str = "image",
        encoder: type[PackedEncoder] = PackedEncoder,
    ):
        network.head.requires_grad_(False)  # takes no part in pretraining, but belongs to timm's network
        channels = network.stem[0].in_channels
        decoder = FCMAEDecoder(network.feature_info[-1]["num_chs"], decoder_width, channels)
        super().__init__(
            encoder(use_float32_grn(network, grn_scope)), use_float32_grn(decoder, grn_scope), normalise_target
        )
