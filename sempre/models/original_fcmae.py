"""Weight files of the original ConvNeXtV2 code (facebookresearch/ConvNeXt-V2), read into timm's network and written.

Pretraining there runs on MinkowskiEngine, which stores kernels as one row an offset, the x offset slowest: a depthwise
kernel `[49, C]` with `dense[c, 0, y, x] = kernel[7 x + y, c]`, a downsampling kernel `[4, C_in, C_out]` with
`dense[o, i, y, x] = kernel[2 x + y, i, o]`; biases and GRN's parameters are `[1, C]`. Fine-tuning there has a dense
network of other parameter names. Both layouts are read, the sparse one is written. Woo et al., CVPR 2023.

Files of colour networks (facebookresearch's own) want levels normalised as ImageNet's. Those of one channel, such as
Rettenberger et al.'s (doi 10.1038/s41524-025-01802-3; their code normalises nothing), want grey levels from 0 to 1,
unless they say under "normalisation" what they want, as those written here do.
"""

import re
from math import isqrt
from pathlib import Path

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.grn import GlobalResponseNorm
from timm.models.convnext import ConvNeXt, checkpoint_filter_fn
from torch import Tensor, nn

from sempre.errors import InputError
from sempre.files import whole_or_absent
from sempre.images.normalise import MEAN, STD
from sempre.models.weight_files import check_parameters, only_tensors, read_pth

CODE = "the original ConvNeXtV2 code"
STEM = "downsample_layers.0.0.weight"  # in the dense layout
UNUSED = ("norm.weight", "norm.bias")  # of the classifier
SUFFIXES = (".pth", ".pt")
# The stem's channels tell the architecture.
WIDTHS = {40: "atto", 48: "femto", 64: "pico", 80: "nano", 96: "tiny", 128: "base", 192: "large", 352: "huge"}


def load_original_weights(network: nn.Module, path: str | Path, average_stem: bool = False) -> None:
    """Load the encoder of an original checkpoint, sparse or dense, into timm's ConvNeXtV2.

    The state dict may lie under "model" or "state_dict"; a decoder is left out. timm's final norm keeps its values
    where the file has none, as after pretraining.

    Args:
        network: timm's network, headless; changed in place.
        path: the `.pth` file.
        average_stem: take the mean of a stem's kernels over its input channels where the network takes one channel.

    Raises:
        InputError: for a missing or damaged file, another architecture, a colour stem that is not to be averaged, and a
            network that is no ConvNeXtV2.
    """
    weights = _encoder_weights(_state_dict(read_pth(Path(path), CODE)), path)
    expected = dict(_to_dense(name.removeprefix("encoder."), w) for name, w in original_state_dict(network).items())
    if STEM not in weights or weights[STEM].ndim != 4:
        raise InputError(f"{path} is no checkpoint of the original ConvNeXtV2 code: it has no kernel {STEM}")
    channels, wanted = weights[STEM].shape[1], expected[STEM].shape[1]
    if wanted == 1 and channels > 1:
        if not average_stem:
            raise InputError(
                f"{path} has a stem for {channels} channels, the network takes 1: have it averaged (average_stem=true)"
            )
        weights[STEM] = weights[STEM].mean(1, keepdim=True)
    check_parameters(weights, expected, path, unused=UNUSED)
    network.load_state_dict(checkpoint_filter_fn(weights, network), strict=False)


def holds_original_weights(path: str | Path) -> bool:
    """Whether a `.pth` file is of the original code, by the names in it.

    Raises:
        InputError: for a file that is missing, damaged, or holds more than weights.
    """
    content = _state_dict(read_pth(Path(path), f"{CODE}, or of another that is known"))
    return isinstance(content, dict) and any(str(name).endswith(STEM) for name in content)


def open_original_weights(path: str | Path) -> tuple[nn.Module, str, dict[str, list[float]]]:
    """The network of an original checkpoint, with as many input channels as it was trained with.

    Returns:
        timm's network, headless; timm's name of its architecture, which the weights tell; `mean` and `std`, a number a
        channel, that grey levels from 0 to 1 are to be normalised with.

    Raises:
        InputError: for a missing or damaged file, or one of another network.
    """
    content = read_pth(Path(path), CODE)
    stem = _encoder_weights(_state_dict(content), path).get(STEM)
    if stem is None or stem.ndim != 4 or len(stem) not in WIDTHS:
        raise InputError(f"{path} holds no ConvNeXtV2 of the original code, from Atto to Huge")
    architecture, channels = f"convnextv2_{WIDTHS[len(stem)]}", stem.shape[1]
    network = timm.create_model(architecture, in_chans=channels, num_classes=0)
    load_original_weights(network, path)
    if channels == 3:
        wanted = {"mean": list(IMAGENET_DEFAULT_MEAN), "std": list(IMAGENET_DEFAULT_STD)}
    else:
        wanted = {"mean": [0.0] * channels, "std": [1.0] * channels}
    return network, architecture, content.get("normalisation", wanted) if isinstance(content, dict) else wanted


def original_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """The weights of timm's ConvNeXtV2 under the names and in the shapes of the original sparse encoder.

    timm's head, with the final norm, has no place there and is left out.

    Raises:
        InputError: when `network` is no ConvNeXtV2.
    """
    if not isinstance(network, ConvNeXt) or not any(isinstance(m, GlobalResponseNorm) for m in network.modules()):
        raise InputError(f"{type(network).__name__} is no ConvNeXtV2: only its weights have an original layout")
    return dict(
        _to_sparse(name, weight.detach()) for name, weight in network.state_dict().items() if name[:5] != "head."
    )


def save_original_weights(network: ConvNeXt, path: str | Path) -> None:
    """Write `{"model": original_state_dict(network)}`, as the original code loads it; the file is whole or absent.

    Beside it stands the normalisation that networks of one channel are trained with here.

    Raises:
        InputError: when `network` is no ConvNeXtV2, or the file cannot be written.
    """
    content: dict[str, dict] = {
        "model": {name: weight.cpu().contiguous() for name, weight in original_state_dict(network).items()}
    }
    if network.stem[0].in_channels == 1:
        content["normalisation"] = {"mean": [MEAN], "std": [STD]}
    try:
        with whole_or_absent(path) as partial:
            torch.save(content, partial)
    except (OSError, RuntimeError) as error:  # torch's own writer raises the latter on a full disk
        reason = str(error).splitlines()[0]
        raise InputError(
            f"cannot save {path} ({reason}): give a folder that can be written, with free space"
        ) from error


def depthwise_to_sparse(weight: Tensor) -> Tensor:
    """A depthwise kernel `[C, 1, k, k]` as MinkowskiEngine has it: `[k * k, C]`, the x offset slowest."""
    return weight.permute(3, 2, 1, 0).flatten(0, 2)


def convolution_to_sparse(weight: Tensor) -> Tensor:
    """A kernel `[C_out, C_in, k, k]` as MinkowskiEngine has it: `[k * k, C_in, C_out]`, the x offset slowest."""
    return weight.permute(3, 2, 1, 0).flatten(0, 1)


def _to_sparse(name: str, weight: Tensor) -> tuple[str, Tensor]:
    """A parameter of timm's network in the original sparse layout."""
    if name.startswith("stem."):
        return f"encoder.downsample_layers.0.{name.removeprefix('stem.')}", weight
    name = re.sub(r"stages\.(\d)\.downsample\.", r"encoder.downsample_layers.\1.", name)
    name = re.sub(r"stages\.(\d)\.blocks\.", r"encoder.stages.\1.", name)
    if re.search(r"\.norm\.|downsample_layers\.\d\.0\.", name):
        return re.sub(r"\.(weight|bias)$", r".ln.\1", name), weight
    if ".grn." in name:
        name = name.replace("mlp.grn.weight", "grn.gamma").replace("mlp.grn.bias", "grn.beta")
        return name, weight[None]
    if ".mlp." in name:
        name = re.sub(r"mlp\.fc(\d)", r"pwconv\1.linear", name)
        return name, weight.flatten(1) if name.endswith("weight") else weight
    name = name.replace("conv_dw", "dwconv")
    if name.endswith("bias"):
        return name, weight[None]
    convert = depthwise_to_sparse if ".dwconv." in name else convolution_to_sparse
    return name.replace(".weight", ".kernel"), convert(weight)


def _to_dense(name: str, weight: Tensor) -> tuple[str, Tensor]:
    """A parameter of either original layout (no prefix) in the dense one; biases and GRN's parameters as `[C]`."""
    if name.endswith(("bias", "grn.gamma", "grn.beta")):
        weight = weight.flatten()
    elif name.endswith("kernel") and weight.ndim in (2, 3) and isqrt(len(weight)) ** 2 == len(weight):
        side = isqrt(len(weight))
        if weight.ndim == 2:
            weight = weight[:, None]
        weight = weight.unflatten(0, (side, side)).permute(3, 2, 1, 0)
    return re.sub(r"\.(?:ln|linear)\.", ".", name).replace(".kernel", ".weight"), weight


def _state_dict(content: object) -> object:
    """What a file holds under "model" or "state_dict", beside optimiser, epoch and arguments; else all of it."""
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return content


def _encoder_weights(state_dict: object, path: str | Path) -> dict[str, Tensor]:
    """The encoder's parameters in the dense layout."""
    weights = {}
    for name, weight in only_tensors(state_dict, Path(path), CODE).items():
        found = re.fullmatch(r"(?:module\.)?(?:encoder\.)?((?:downsample_layers|stages|norm)\..+)", name)
        if found:
            name, weight = _to_dense(found[1], weight)
            weights[name] = weight
    return weights
