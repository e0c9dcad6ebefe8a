"""Any network of timm's as an encoder that gives maps at several strides.

Three kinds are told apart by the strides of their stages (timm's `feature_info`):

- from 2 to 32, such as EfficientNet, ResNet, RegNetY, MobileNet: the stages are the maps;
- from 4 to 32, such as ConvNeXt and Swin: a small convolutional branch beside them gives the map at stride 2;
- one stride only, such as ViT and DINOv3: the last map is brought to strides 4 to 32 by a simple pyramid (Li et al.,
  "Exploring plain vision transformer backbones for object detection", ECCV 2022).
"""

from functools import lru_cache
from itertools import groupby
from typing import Any, cast

import timm
import torch
from timm.models.convnext import ConvNeXt
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from sempre.errors import InputError
from sempre.models.timm_networks import TimmNetwork, use_float32_grn
from sempre.models.unet_encoder import STRIDES, ResidualBlock, UNetEncoder

FINE_WIDTH = 32  # channels of the branch at stride 2 beside a network that begins at stride 4
COARSE = STRIDES[1:]
OTHERS = "try tf_efficientnet_lite0, resnet18 or convnextv2_pico"
# What makes timm's networks of a fixed image size take others, in the order in which it is tried.
ANY_SIZE = {"dynamic_img_size": True}, {"strict_img_size": False}, {}


def create_network(architecture: str, channels: int = 1, **arguments: Any) -> TimmNetwork:
    """The timm network of that name, without its classifier, for images of any size where it can take them.

    Args:
        arguments: further ones of `timm.create_model`; without any the weights are random.

    Raises:
        InputError: for a name that timm does not know.
    """
    return use_float32_grn(_build(architecture, channels, **arguments))


def _build(architecture: str, channels: int = 1, **arguments: Any) -> TimmNetwork:
    if not timm.is_model(architecture):
        raise InputError(f"timm has no architecture '{architecture}': try tf_efficientnet_lite0 or convnextv2_pico")
    known = timm.models.get_pretrained_cfg(architecture)
    for sizes in ANY_SIZE if known is not None and known.fixed_input_size else ({},):
        try:
            network = timm.create_model(architecture, in_chans=channels, num_classes=0, **sizes, **arguments)
        except TypeError:  # it does not take the arguments for any size
            continue
        return cast(TimmNetwork, network)
    raise InputError(f"timm cannot build {architecture} without its classifier: try tf_efficientnet_lite0")


def stages_at(network: TimmNetwork) -> dict[int, int]:
    """The last stage of the network at each stride, as `{stride: position in feature_info}`."""
    numbered = enumerate(stage["reduction"] for stage in network.feature_info)
    return {stride: list(same)[-1][0] for stride, same in groupby(numbered, key=lambda item: item[1])}


class TimmBody(nn.Module):
    """A network of timm's for maps at the strides 2, 4, 8, 16, 32 that it has, or from 4 on.

    `body` is timm's network itself, under timm's names, so its weights load and save as timm's. `widths` are the
    channels of the maps.

    Args:
        architecture: timm's name.
        finest: the first stride, 2 or 4.

    Raises:
        InputError: for a network that timm does not have, or that does not give such maps.
    """

    def __init__(self, architecture: str, finest: int = 2):
        super().__init__()
        check_encoder(architecture)
        self.body = create_network(architecture)
        stages = stages_at(self.body)
        widths: dict[int, int] = {stride: self.body.feature_info[stage]["num_chs"] for stride, stage in stages.items()}
        self.patch = 0  # px a side of a vision transformer's patch
        if len(stages) == 1:
            ((self.patch, width),) = widths.items()
            self.taken = [len(self.body.feature_info) - 1]
            self.rescale = nn.ModuleList(_rescaling(width, _power_of_two(self.patch), stride) for stride in COARSE)
            widths = dict.fromkeys(COARSE, width)
        else:
            strides = [stride for stride in STRIDES if stride in stages and stride >= finest]
            self.taken = [stages[stride] for stride in strides]
            widths = {stride: widths[stride] for stride in strides}
        self.finest = min(widths)
        self.widths: tuple[int, ...] = tuple(widths.values())
        # A distributed run waits for the gradients of every parameter that asks for one.
        for name in unused_parameters(architecture, tuple(self.taken)):
            self.body.get_parameter(name).requires_grad_(False)

    def coarse(self, images: Tensor) -> list[Tensor]:
        """The maps that `body` gives for images `[B, 1, H, W]`, one for each stride."""
        if not self.patch:
            return intermediates(self.body, images, self.taken)
        share = self.patch / _power_of_two(self.patch)  # a patch of 14 px stands for a cell of 16
        if share != 1:
            images = functional.interpolate(images, scale_factor=share, mode="bilinear")
        (last,) = intermediates(self.body, images, self.taken)
        return [layers(last) for layers in self.rescale]


class TimmEncoder(TimmBody):
    """A network of timm's as maps at strides s = 2, 4, 8, 16, 32, or from 4 on.

    `forward(images [B, 1, H, W])` gives a map `[B, C_s, H / s, W / s]` for each stride; H and W are multiples of 32.
    Where the network has no map at stride 2, a small branch of convolutions beside it gives one.
    """

    def __init__(self, architecture: str, finest: int = 2):
        super().__init__(architecture, finest)
        if finest == STRIDES[0] < self.finest:
            self.fine = nn.Sequential(
                nn.Conv2d(1, FINE_WIDTH, 5, 2, 2, bias=False),
                nn.BatchNorm2d(FINE_WIDTH),
                nn.ReLU(),
                ResidualBlock(FINE_WIDTH, FINE_WIDTH),
            )
            self.widths = (FINE_WIDTH, *self.widths)

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = [self.fine(images)] if hasattr(self, "fine") else []
        return [*fine, *self.coarse(images)]


def intermediates(network: nn.Module, images: Tensor, stages: list[int], norm: bool = False) -> list[Tensor]:
    """The maps `[B, C, h, w]` of some stages of a timm network for images `[B, channels, H, W]`.

    Args:
        stages: positions in the network's `feature_info`; negative ones count from the last.
        norm: put the last stage through the network's final normalisation, where it has one.
    """
    timms = cast(TimmNetwork, network)
    return timms.forward_intermediates(images, indices=stages, norm=norm, intermediates_only=True, output_fmt="NCHW")


def check_encoder(architecture: str) -> None:
    """Make sure that a network of timm's can be an encoder.

    Raises:
        InputError: for a name that timm does not know, or a network without maps at strides 4 to 32, 2 to 32, or at
            one stride.
    """
    strides = check_maps(architecture)
    if len(strides) > 1 and not set(COARSE) <= set(strides):
        raise InputError(
            f"{architecture} has maps at strides {list(strides)}, an encoder needs {list(COARSE)}: {OTHERS}"
        )


@lru_cache(maxsize=64)
def check_maps(architecture: str) -> tuple[int, ...]:
    """The strides of a network's maps, once it is seen to give them: it is built without memory, and tried.

    Raises:
        InputError: for a name that timm does not know, or a network that gives no maps of images of any size.
    """
    try:
        network, images = _weightless(architecture)
        stages = stages_at(network)
        with torch.device("meta"), torch.no_grad():
            maps = intermediates(network, images, list(stages.values()))
    except InputError:
        raise
    except Exception as error:  # each network fails in its own way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{architecture} gives no maps of images of any size ({reason}): {OTHERS}") from error
    for stride, features in zip(stages, maps, strict=True):
        if tuple(features.shape[2:]) != tuple(side // stride for side in images.shape[2:]):
            raise InputError(
                f"{architecture} gives {list(features.shape[2:])} cells at stride {stride} of an image of "
                f"{list(images.shape[2:])} px: {OTHERS}"
            )
    return tuple(stages)


@lru_cache(maxsize=64)
def unused_parameters(architecture: str, stages: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the network's parameters that the maps of `stages` do not depend on, such as those of its last layers.

    They are found by differentiating the maps on a device without memory.
    """
    network, images = _weightless(architecture)
    with torch.device("meta"), torch.enable_grad():
        maps = intermediates(network, images, list(stages))
        named = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
        total = torch.stack([features.sum() for features in maps]).sum()
        gradients: Any = torch.autograd.grad(total, [weight for _, weight in named], allow_unused=True)
    return tuple(name for (name, _), gradient in zip(named, gradients, strict=True) if gradient is None)


def _weightless(architecture: str) -> tuple[TimmNetwork, Tensor]:
    """The network, and an image `[1, 1, H, W]` of two by three of its largest cells, on a device without memory."""
    with torch.device("meta"):
        network = _build(architecture).eval()
        cell = max(stages_at(network))
        return network, torch.empty(1, 1, 2 * cell, 3 * cell)


def _power_of_two(side: int) -> int:
    """The least power of two that is not below `side`."""
    return 1 << (side - 1).bit_length()


def _rescaling(width: int, stride: int, wanted: int) -> nn.Sequential:
    """Layers that bring a map `[B, width, h, w]` from `stride` to the stride `wanted`, each a power of two."""
    if wanted >= stride:
        return nn.Sequential(nn.AvgPool2d(wanted // stride) if wanted > stride else nn.Identity())
    layers: list[nn.Module] = []
    while stride > wanted:
        layers += [nn.ConvTranspose2d(width, width, 2, 2), nn.GroupNorm(1, width), nn.GELU()]
        stride //= 2
    return nn.Sequential(*layers[:-2])


def feature_map(network: nn.Module, images: Tensor) -> Tensor:
    """The last feature map `[B, C, h, w]` of a headless timm network or of an encoder, of `[B, channels, H, W]`.

    A vision transformer's patch tokens are laid out as they lie in the image; its class and register tokens are left
    out.
    """
    if isinstance(network, UNetEncoder | TimmEncoder):
        return network(images)[-1]
    (last,) = intermediates(network, images, [-1], norm=True)
    return last


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
