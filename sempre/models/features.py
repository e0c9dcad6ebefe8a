"""The feature map of any backbone."""

from typing import cast

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sempre.errors import InputError
from sempre.models.timm_networks import TimmNetwork
from sempre.models.unet_encoder import UNetEncoder


def feature_map(network: nn.Module, images: Tensor) -> Tensor:
    """The last feature map `[B, C, h, w]` of a headless timm network or our U-Net's encoder, of `[B, channels, H, W]`.

    A vision transformer's patch tokens are laid out as they lie in the image; its class and register tokens are left
    out.

    Raises:
        InputError: for a network that gives neither maps nor a vision transformer's tokens.
    """
    if isinstance(network, UNetEncoder):
        return network(images)[-1]
    features = cast(TimmNetwork, network).forward_features(images)
    if isinstance(network, VisionTransformer):
        height, width = network.patch_embed.dynamic_feat_size(images.shape[2:])
        return features[:, network.num_prefix_tokens :].transpose(1, 2).unflatten(2, (height, width))
    if features.ndim != 4:
        raise InputError(f"{type(network).__name__} has no feature map: choose a ConvNeXtV2 or a ViT")
    return features
