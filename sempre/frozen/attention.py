"""Where a vision transformer's class token looks, head by head."""

from typing import Any

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from sempre.errors import InputError
from sempre.frozen.encoder import Encoder, Grid
from sempre.frozen.extract import as_channels
from sempre.frozen.tiles import TileSource, stitch


@torch.inference_mode()
def class_attention(encoder: Encoder, images: Tensor) -> Tensor:
    """Attention of the class token to every cell, float32 `[B, heads, rows, columns]`, in the encoder's layer.

    Queries and keys are computed anew from what the block is given, for its fused kernel keeps no attention (Caron et
    al., "Emerging properties in self-supervised vision transformers", ICCV 2021, figure 1). Over the cells of a head it
    sums to at most 1: the rest goes to the class token itself and to registers.

    Args:
        images: grey values `[B, 1, H, W]` or colours `[B, 3, H, W]`, uint8 or float32 in [0, 1].

    Raises:
        InputError: as `check_class_token` does.
    """
    check_class_token(encoder)
    network = encoder.network
    assert isinstance(network, VisionTransformer)
    inputs = encoder.normalise(images)
    layer = encoder.layer % encoder.layers
    block: Any = network.blocks[layer]
    tokens = network.norm_pre(network._pos_embed(network.patch_embed(inputs)))
    for earlier in network.blocks[:layer]:
        tokens = earlier(tokens)
    attention = block.attn
    heads = (attention.num_heads, attention.head_dim)
    queries, keys, _ = attention.qkv(block.norm1(tokens)).unflatten(-1, (3, *heads)).unbind(2)
    queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    similarity = torch.einsum("bhc,bnhc->bhn", queries[:, 0], keys) * attention.scale
    to_cells = similarity.float().softmax(-1)[..., network.num_prefix_tokens :]
    return to_cells.unflatten(-1, network.patch_embed.dynamic_feat_size(inputs.shape[2:]))


def check_class_token(encoder: Encoder) -> None:
    """
    Raises:
        InputError: for an encoder without a class token, or whose blocks do not keep their queries and keys together.
    """
    if not isinstance(encoder.network, VisionTransformer) or not encoder.has_class_token:
        raise InputError(f"{encoder.name} has no class token: attention maps need a vision transformer")
    if not hasattr(getattr(encoder.network.blocks[encoder.layer], "attn", None), "qkv"):
        raise InputError(f"{encoder.architecture} is no plain vision transformer: its attention cannot be read")


def head_maps(encoder: Encoder, tiles: TileSource, index: int) -> np.ndarray:
    """`class_attention` in a whole micrograph, tile by tile, at every px of its working size: float32 `[heads, h, w]`.

    Between cells it is interpolated. Each tile has its own class token, so from tile to tile maps may jump.
    """
    maps, grids = [], []
    for number in range(tiles.first[index], tiles.first[index + 1]):
        pixels, _ = tiles.read(number)
        heads = class_attention(encoder, as_channels(pixels)[None].to(encoder.device))
        maps.append(heads[0].permute(1, 2, 0).cpu().numpy())
        height, width = pixels.shape[:2]
        grids.append(Grid(height, width, height, width, encoder.cell))
    return np.moveaxis(stitch(maps, grids, tiles.boxes[index]), -1, 0)
