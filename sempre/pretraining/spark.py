"""The objective of sparse masked modelling (SparK): paint a micrograph's hidden patches from maps of all scales.

Tian et al., "Designing BERT for convolutional networks: sparse and hierarchical masked modeling", ICLR 2023.
"""

from sempre.models.masked.masked_unet import MaskedUNetEncoder
from sempre.models.masked.spark_decoder import SparKDecoder
from sempre.models.unet_encoder import UNetEncoder
from sempre.pretraining.masked_autoencoder import MaskedAutoencoder


class SparK(MaskedAutoencoder):
    """A masked autoencoder whose encoder is the U-Net's."""

    def __init__(self, network: UNetEncoder, decoder_width: int = 256, normalise_target: bool = True):
        decoder = SparKDecoder(network.widths, decoder_width, network.channels)
        super().__init__(MaskedUNetEncoder(network), decoder, normalise_target)
