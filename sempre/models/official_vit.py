"""Weight files of the official DINO and DINOv2 code (facebookresearch), read into timm's vision transformers.

Files such as `dino_deitsmall16_pretrain.pth` and `dinov2_vitb14_reg4_pretrain.pth` hold a bare state dict under nearly
timm's names; timm's own filter knows the differences (registers, SwiGLU, positional embeddings). Caron et al., ICCV
2021; Oquab et al., "DINOv2", TMLR 2024; Darcet et al., "Vision transformers need registers", ICLR 2024.
"""

from math import isqrt
from pathlib import Path

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from sempre.errors import InputError
from sempre.models.weight_files import check_parameters, grey_stem, only_tensors, read_pth

CODE = "the official DINO or DINOv2 code"
STEM, STEM_BIAS = "patch_embed.proj.weight", "patch_embed.proj.bias"


def load_official_vit(network: nn.Module, path: str | Path) -> None:
    """Load an official `.pth` file into timm's network.

    A colour stem becomes a grey one where the network takes one channel (`grey_stem`). Positional embeddings are
    interpolated to the network's image size. Of a whole training checkpoint the teacher is taken.

    Args:
        network: timm's network of the file's architecture, headless; changed in place. Of DINO's files
            `vit_{small,base}_patch{8,16}_224`, of DINOv2's `vit_{small,base,large,giant}_patch14_dinov2`, of those with
            registers `vit_{small,base,large,giant}_patch14_reg4_dinov2`.
        path: the file.

    Raises:
        InputError: for a missing or damaged file, or another architecture.
    """
    if not isinstance(network, VisionTransformer):
        raise InputError(f"{path} is for a vision transformer, not for a {type(network).__name__}: choose a vit_…")
    weights = _read_tensors(Path(path))
    missing = {STEM, STEM_BIAS, "cls_token", "pos_embed"} - weights.keys()
    if missing:
        raise InputError(f"{path} is no file of {CODE}: it has no {min(missing)}")
    _check_tokens(network, weights, path)
    if network.patch_embed.proj.in_channels == 1 and weights[STEM].shape[1] == 3:
        weights[STEM], weights[STEM_BIAS] = grey_stem(
            weights[STEM], weights[STEM_BIAS], IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        )
    if "register_tokens" in weights:
        weights.setdefault("mask_token", torch.empty(0))  # by which timm's filter knows DINOv2's layout
    weights = checkpoint_filter_fn(weights, network)
    check_parameters(weights, network.state_dict(), path)
    network.load_state_dict(weights)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict of a `.pth` file; of a whole training checkpoint, that of the teacher's backbone."""
    content = read_pth(path, CODE)
    if isinstance(content, dict) and isinstance(content.get("teacher"), dict):
        backbone = {str(name).removeprefix("module."): weight for name, weight in content["teacher"].items()}
        content = {name[9:]: weight for name, weight in backbone.items() if name.startswith("backbone.")}
    return only_tensors(content, path, CODE)


def _check_tokens(network: VisionTransformer, weights: dict[str, Tensor], path: str | Path) -> None:
    """What timm's filter would adapt without a word, or stumble over."""
    advice = "choose the architecture that it was trained with"
    patch, wanted = list(weights[STEM].shape[2:]), list(network.patch_embed.patch_size)
    if patch != wanted:
        raise InputError(f"{path} is for patches of {patch} px, the network's are of {wanted} px: {advice}")
    registers = weights["register_tokens"].shape[1] if "register_tokens" in weights else 0
    if registers != network.num_reg_tokens:
        raise InputError(f"{path} has {registers} registers, the network {network.num_reg_tokens}: {advice}")
    embedded = weights["pos_embed"]
    if (
        embedded.ndim != 3
        or embedded.shape[2] != network.embed_dim
        or isqrt(cells := embedded.shape[1] - 1) ** 2 != cells
    ):
        raise InputError(
            f"{path} is another network's, its pos_embed is {list(embedded.shape)}, "
            f"not [1, 1 + a square, {network.embed_dim}]: {advice}"
        )
