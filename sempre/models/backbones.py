"""The networks that views of several sizes are put through: timm's ConvNeXtV2 and vision transformers."""

from typing import cast

import timm
import torch
from timm.models.convnext import ConvNeXt
from timm.models.vision_transformer import VisionTransformer

from sempre.errors import InputError


def cell_size(architecture: str) -> int:
    """Side in px of the square of an image that one cell of the network's feature map stands for.

    Raises:
        InputError: for a name that timm does not know, or a network of another kind.
    """
    network = None
    if timm.is_model(architecture):
        with torch.device("meta"):
            network = timm.create_model(architecture, num_classes=0)
    if not isinstance(network, ConvNeXt | VisionTransformer):
        raise InputError(
            f"architecture={architecture} is neither a ConvNeXtV2 nor a vision transformer of timm: choose for example "
            "convnextv2_pico, vit_small_patch16_224 or vit_base_patch14_reg4_dinov2"
        )
    return cast(int, network.feature_info[-1]["reduction"])


def check_view_size(name: str, size: int, architecture: str) -> None:
    """Make sure that a view's side is a whole number of cells.

    Raises:
        InputError: when it is not; also as `cell_size`.
    """
    cell = cell_size(architecture)
    if size < cell or size % cell:
        nearest = max(1, round(size / cell)) * cell
        raise InputError(f"{name}={size} is no multiple of {cell} px, as {architecture} needs: take {nearest}")


def arguments_for(architecture: str, size: int) -> dict:
    """What `timm.create_model` needs besides for images of several sizes, most of them of `size` px.

    A vision transformer learns a position for each patch of such an image and interpolates those of other sizes.
    """
    return {"img_size": size, "dynamic_img_size": True} if architecture.startswith("vit_") else {}
