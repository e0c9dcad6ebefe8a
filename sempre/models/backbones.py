"""The backbone artefact: encoder weights under their network's own names, and what they are.

`backbone.safetensors` loads into `timm.create_model(architecture, in_chans=…, num_classes=0, **arguments)` as it is, or
into our own `UNetEncoder(architecture, channels)` for the names in its `WIDTHS`, none of which is timm's.
`backbone.json` holds the architecture, its arguments (a vision transformer's image size), the input's normalisation,
the method, the data's fingerprint and the options. A `.pth` file of the original ConvNeXtV2 code is read in its place.
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import timm
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import nn

import sempre
from sempre.errors import InputError
from sempre.files import code_commit, read_json, write_json
from sempre.images.normalise import MEAN, STD
from sempre.models.unet_encoder import WIDTHS, UNetEncoder
from sempre.models.weight_files import build_fitting, check_numbers, load_weights, save_weights, to_one_channel

WEIGHTS, DETAILS = "backbone.safetensors", "backbone.json"
ARGUMENTS = {"img_size": int, "dynamic_img_size": bool}  # that a backbone may name, see `sempre.models.encoders`


@dataclass(frozen=True)
class BackboneDetails:
    """What `backbone.json` says."""

    architecture: str  # timm's name, or one of our U-Nets'
    input_channels: int
    method: str  # that it was pretrained with
    data_fingerprint: str
    validation_loss: float | None
    config: dict
    arguments: dict = field(default_factory=dict)  # that timm.create_model takes besides
    normalisation: dict = field(default_factory=lambda: {"percentiles": [1, 99], "mean": MEAN, "std": STD})
    code_version: str = sempre.__version__
    code_commit: str | None = None  # that the code was of, where that is known

    @property
    def percentiles(self) -> tuple[float, float]:
        """Grey values at these percentiles of a micrograph became 0 and 1 in what it was pretrained on."""
        low, high = self.normalisation["percentiles"]
        return float(low), float(high)


def save_backbone(folder: str | Path, network: nn.Module, details: BackboneDetails) -> None:
    """Write the artefact; each file is whole or absent, the details come last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(network, folder / WEIGHTS)
    write_json(folder / DETAILS, {**asdict(details), "code_commit": code_commit()})


def read_backbone_details(folder: str | Path) -> BackboneDetails:
    """The artefact's details.

    Raises:
        InputError: when `folder` is no backbone.
    """
    folder = Path(folder)
    if not (folder / DETAILS).is_file() or not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder} is no backbone: it has no {WEIGHTS} and {DETAILS}, as pretrain/ writes them")
    path = folder / DETAILS
    try:
        details = BackboneDetails(**read_json(path))
        _check(details)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}): copy the backbone again") from error
    check_numbers({"input_channels": details.input_channels, **details.arguments}, path)
    return details


def _check(details: BackboneDetails) -> None:
    """Whether details are what `save_backbone` writes: timm would load further files, or fetch some, for others."""
    name, arguments, normalisation = details.architecture, details.arguments, details.normalisation
    possible = {
        "architecture": isinstance(name, str) and (name in WIDTHS or timm.is_model(name)),
        "input_channels": type(details.input_channels) is int,
        "arguments": all(ARGUMENTS.get(key) is type(value) for key, value in arguments.items()),
        "normalisation": all(math.isfinite(float(normalisation[key])) for key in ("mean", "std"))
        and float(normalisation["std"]) > 0
        and 0 <= details.percentiles[0] < details.percentiles[1] <= 100,
    }
    for field_name, holds in possible.items():
        if not holds:
            raise ValueError(f"'{field_name}' is {getattr(details, field_name)!r}")


def percentiles_of(backbone: str | Path) -> tuple[float, float]:
    """The percentiles that micrographs have to be normalised by for a backbone: its own where it is such a folder.

    Any other start, such as ImageNet's weights or random ones, knows none and takes 1 and 99.

    Raises:
        InputError: for a damaged backbone.
    """
    return read_backbone_details(backbone).percentiles if Path(backbone).is_dir() else (1.0, 99.0)


def architecture_of_backbone(backbone: str | Path) -> str:
    """The architecture of a backbone's folder; "" for any other start, such as ImageNet's weights or random ones.

    Raises:
        InputError: for a damaged backbone.
    """
    return read_backbone_details(backbone).architecture if Path(backbone).is_dir() else ""


def load_backbone(folder: str | Path) -> tuple[nn.Module, BackboneDetails]:
    """The artefact's network, headless, and its details; or those of a file of the original ConvNeXtV2 code.

    The file's `normalisation` has a `mean` and a `std` for each input channel.

    Raises:
        InputError: when `folder` is no backbone or is damaged.
    """
    if Path(folder).is_file():
        from sempre.models.original_fcmae import open_original_weights  # here, for most backbones are folders

        network, architecture, levels = open_original_weights(folder)
        normalisation = {"percentiles": [1, 99], **levels}
        channels = len(levels["mean"])
        return network, BackboneDetails(
            architecture, channels, "original ConvNeXtV2 file", "", None, {}, normalisation=normalisation
        )
    details = read_backbone_details(folder)
    name, channels = details.architecture, details.input_channels

    def build() -> nn.Module:
        if name in WIDTHS:
            return UNetEncoder(name, channels)
        return timm.create_model(name, in_chans=channels, num_classes=0, **details.arguments)

    return build_fitting(build, Path(folder) / WEIGHTS), details


def load_backbone_weights(network: nn.Module, folder: str | Path, architecture: str) -> None:
    """Load the artefact into a headless `network` of `architecture`.

    A vision transformer's positional embeddings are interpolated to the image size of `network`. A file of the original
    ConvNeXtV2 code may stand in the artefact's place: its stem becomes one for grey levels as they are normalised here,
    to which the network answers exactly as the original does to the same grey picture.

    Raises:
        InputError: when `folder` is no backbone, is damaged, or holds another architecture.
    """
    pretrained = None
    if Path(folder).is_file():
        pretrained, details = load_backbone(folder)
    else:
        details = read_backbone_details(folder)
    if details.architecture != architecture:
        # Not every recipe takes a U-Net or a vision transformer.
        own_kind = details.architecture.startswith(("unet_", "vit_"))
        same_kind = details.architecture.split("_")[0] == architecture.split("_")[0]
        other = "" if own_kind and not same_kind else f"set architecture={details.architecture}, or "
        raise InputError(
            f"the backbone {folder} is a {details.architecture}, not a {architecture}: "
            f"{other}give a backbone of {architecture}"
        )
    if pretrained is not None:
        levels = details.normalisation
        network.load_state_dict(to_one_channel(pretrained, levels["mean"], levels["std"]).state_dict())
    elif isinstance(network, VisionTransformer):
        pretrained, _ = load_backbone(folder)
        network.load_state_dict(checkpoint_filter_fn(pretrained.state_dict(), network))
    else:
        load_weights(network, Path(folder) / WEIGHTS)
