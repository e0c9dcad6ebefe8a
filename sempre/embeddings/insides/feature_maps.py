"""What the stages of a ConvNeXtV2 answer to a micrograph, and how many of its channels say nothing.

Rettenberger et al., npj Comput. Mater. 2025 (doi 10.1038/s41524-025-01802-3), figure 5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from timm.layers.mlp import GlobalResponseNormMlp
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from sempre.errors import InputError
from sempre.models.timm_networks import blocks_of, stages_of
from sempre.pretraining.collapse import channel_distance, dead_channels, saturated_channels


@dataclass(frozen=True)
class ChannelFigures:
    """Of a stage's maps: channels in all, dead and saturated ones, and the mean cosine distance between channels."""

    channels: int
    dead: int
    saturated: int
    mean_cosine_distance: float


@torch.inference_mode()
def stage_activations(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    """What leaves the global response normalisation of each stage's last block, float32 `[B, C, h, w]`.

    That is the expanded layer, four times as wide as the stage, where Woo et al. ("ConvNeXt V2", CVPR 2023, section 3)
    see features collapse.

    Args:
        network: a ConvNeXtV2 of timm.
        inputs: normalised images `[B, channels, H, W]`.

    Raises:
        InputError: for a network without such layers.
    """
    if not has_response_norm(network):
        raise InputError(
            f"{type(network).__name__} has no global response normalisation to look behind: choose a ConvNeXtV2"
        )
    seen = []
    blocks = [blocks_of(stage)[-1] for stage in stages_of(network)]
    norms = [block.mlp.get_submodule("grn") for block in blocks]
    hooks = [norm.register_forward_hook(lambda _, __, maps: seen.append(maps.float())) for norm in norms]
    try:
        network.forward_features(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [maps if block.use_conv_mlp else maps.permute(0, 3, 1, 2) for block, maps in zip(blocks, seen, strict=True)]


def has_response_norm(network: nn.Module) -> TypeGuard[ConvNeXt]:
    """Whether it is a ConvNeXtV2: a ConvNeXt with global response normalisation in every stage."""
    return isinstance(network, ConvNeXt) and all(
        isinstance(blocks_of(stage)[-1].mlp, GlobalResponseNormMlp) for stage in stages_of(network)
    )


def channel_figures(maps: Tensor) -> ChannelFigures:
    """Of a stage's maps `[B, C, h, w]`; dead, saturated and the distance as `sempre.pretraining.collapse` defines."""
    return ChannelFigures(
        channels=maps.shape[1],
        dead=int(dead_channels(maps).sum()),
        saturated=int(saturated_channels(maps).sum()),
        mean_cosine_distance=channel_distance(maps),
    )


def mean_figures(by_micrograph: Sequence[ChannelFigures]) -> Mapping[str, float]:
    """The means of several micrographs' figures of one stage."""
    return {
        name: float(np.mean([getattr(figures, name) for figures in by_micrograph]))
        for name in ChannelFigures.__dataclass_fields__
    }


def drawn_channels(channels: int, count: int, seed: int) -> np.ndarray:
    """`count` channels of a stage drawn without repetition, ascending; the same ones in networks of one width."""
    draws = np.random.default_rng([seed, channels])
    return np.sort(draws.choice(channels, min(count, channels), replace=False))
