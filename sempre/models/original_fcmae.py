"""Weight files of the original ConvNeXtV2 code (facebookresearch/ConvNeXt-V2), read into timm's network and written.

Pretraining there runs on MinkowskiEngine, which stores kernels as one row an offset, the x offset slowest: a depthwise
kernel `[49, C]` with `dense[c, 0, y, x] = kernel[7 x + y, c]`, a downsampling kernel `[4, C_in, C_out]` with
`dense[o, i, y, x] = kernel[2 x + y, i, o]`; biases and GRN's parameters are `[1, C]`. Fine-tuning there has a dense
network of other parameter names. Both layouts are read, the sparse one is written. Woo et al., CVPR 2023.
"""

import re
from math import isqrt
from pathlib import Path

import torch
from timm.layers.grn import GlobalResponseNorm
from timm.models.convnext import ConvNeXt, checkpoint_filter_fn
from torch import Tensor

from sempre.errors import InputError
from sempre.files import whole_or_absent
from sempre.models.weights import check_parameters, only_tensors, read_pth

CODE = "the original ConvNeXtV2 code"
STEM = "downsample_layers.0.0.weight"  # in the dense layout
UNUSED = ("norm.weight", "norm.bias")  # of the classifier


def load_original_weights(network: ConvNeXt, path: str | Path, average_stem: bool = False) -> None:
    """Load the encoder of an original checkpoint, sparse or dense, into timm's ConvNeXtV2.

    The state dict may lie under "model" or "state_dict"; a decoder is left out. timm's final norm keeps its values
    where the file has none, as after pretraining.

    Args:
        network: timm's network, headless; changed in place.
        path: the `.pth` file.
        average_stem: take the mean of a stem's kernels over its input channels where the network takes one channel.

    Raises:
        InputError: for a missing or damaged file, another architecture, or a colour stem that is not to be averaged.
    """
    weights = {}
    for name, weight in _read_tensors(Path(path)).items():
        found = re.fullmatch(r"(?:module\.)?(?:encoder\.)?((?:downsample_layers|stages|norm)\..+)", name)
        if found:
            name, weight = _to_dense(found[1], weight)
            weights[name] = weight
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


def original_state_dict(network: ConvNeXt) -> dict[str, Tensor]:
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

    Raises:
        InputError: when `network` is no ConvNeXtV2, or the file cannot be written.
    """
    weights = {name: weight.cpu().contiguous() for name, weight in original_state_dict(network).items()}
    try:
        with whole_or_absent(path) as partial:
            torch.save({"model": weights}, partial)
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


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict of a `.pth` file, which the original code stores with optimiser, epoch and arguments."""
    content = read_pth(path, CODE)
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return only_tensors(content, path, CODE)
