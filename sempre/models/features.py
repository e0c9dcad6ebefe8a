"""The last feature map of any backbone."""

from torch import Tensor, nn

from sempre.models.encoders import intermediates
from sempre.models.unet_encoder import UNetEncoder


def feature_map(network: nn.Module, images: Tensor) -> Tensor:
    """The last feature map `[B, C, h, w]` of a headless timm network or our U-Net's encoder, of `[B, channels, H, W]`.

    A vision transformer's patch tokens are laid out as they lie in the image; its class and register tokens are left
    out.
    """
    if isinstance(network, UNetEncoder):
        return network(images)[-1]
    (last,) = intermediates(network, images, [-1], norm=True)
    return last
