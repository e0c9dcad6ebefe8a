"""What a fine-tuning begins from, as a recipe's options `backbone` and `imagenet_weights` name it."""

from collections.abc import Sequence

from torch import nn

from sempre.images import percentile_range
from sempre.models.weights.checkpoints import (
    load_backbone_weights,
    load_timm_weights,
    percentiles_of,
    timm_weights_name,
)


def load_initial_weights(body: nn.Module, architecture: str, backbone: str, imagenet_weights: str = "") -> None:
    """Load what `backbone` names into the headless one-channel network `body`; "none" leaves it as it is.

    Args:
        architecture: the body's.
        backbone: a backbone's folder, a file of the original ConvNeXtV2 code, "imagenet" (timm's weights) or "none".
        imagenet_weights: a local file with timm's weights; "" takes those of timm's hub.

    Raises:
        InputError: for weights that cannot be had, are damaged, or another architecture's.
    """
    if backbone == "imagenet":
        load_timm_weights(body, architecture, imagenet_weights or None)
    elif backbone != "none":
        load_backbone_weights(body, backbone, architecture)


def initial_weights_name(architecture: str, backbone: str, imagenet_weights: str = "") -> str:
    """What `load_initial_weights` loads, as it is recorded: of ImageNet's weights also which."""
    return timm_weights_name(architecture, imagenet_weights or None) if backbone == "imagenet" else backbone


def initial_percentiles(backbone: str, given: Sequence[float] = ()) -> tuple[float, float]:
    """The percentiles that micrographs are normalised by: those `given`, else those of the backbone's pretraining.

    Raises:
        InputError: for those given that are no range, and for a damaged backbone.
    """
    return percentile_range(given) if given else percentiles_of(backbone)
