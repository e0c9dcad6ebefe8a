"""Whether a network's features still tell images apart: three figures to watch while it is pretrained."""

from collections.abc import Iterable
from math import log

import torch
from torch import Tensor, nn

from sempre.models.encoders import feature_map


def rank_me(embeddings: Tensor, eps: float = 1e-7) -> float:
    """RankMe, the effective rank of embeddings `[N, D]`: exp of the entropy of their normalised singular values.

    From 1 (all on one line) to min(N, D). Garrido et al., "RankMe: Assessing the downstream performance of pretrained
    self-supervised representations by their rank", ICML 2023.
    """
    singular = torch.linalg.svdvals(embeddings.double())
    share = singular / singular.sum().clamp(min=eps) + eps
    return float(torch.exp(-(share * share.log()).sum()))


def channel_distance(features: Tensor) -> float:
    """Mean pairwise cosine distance of the channels of feature maps `[B, C, H, W]`, 0 (all the same) to 1.

    What GRN is there to raise: Woo et al., "ConvNeXt V2", CVPR 2023, figure 3. (1 - cos) / 2, each channel a vector
    over the cells of one image.
    """
    channels = torch.nn.functional.normalize(features.flatten(2).double(), dim=-1)  # [B, C, H*W]
    cosine = channels @ channels.transpose(1, 2)
    count = features.shape[1]
    mean = (cosine.sum((1, 2)) - cosine.diagonal(dim1=1, dim2=2).sum(1)) / (count * (count - 1))
    return float((1 - mean).mean() / 2)


def active_channels(features: Tensor, share: float = 0.01) -> float:
    """Share of the channels of `[B, C, H, W]` whose deviation over images and cells exceeds `share` of the largest."""
    return float((~dead_channels(features, share)).double().mean())


def dead_channels(features: Tensor, share: float = 0.01) -> Tensor:
    """Which channels of `[B, C, H, W]` are dead, bool `[C]`: their deviation over images and cells is at most `share`
    of the largest channel's.

    Woo et al. ("ConvNeXt V2", CVPR 2023, section 3) see dead channels as maps of one grey and give no number. At a
    hundredth of the deviation a channel has a ten-thousandth of the variance that the next layer is given; it could as
    well be a constant.
    """
    deviation = features.double().std(dim=(0, 2, 3))
    return deviation <= share * deviation.max()


def saturated_channels(features: Tensor, share: float = 0.05) -> Tensor:
    """Which channels of `[B, C, H, W]` are saturated, bool `[C]`: not dead, and yet their deviation over images and
    cells is at most `share` of their mean's magnitude.

    Such a channel is switched on everywhere: it adds a level to the next layer, hardly a picture. No source gives a
    number; at 0.05 the map, drawn from zero, differs from its mean by less than a tenth in nearly all cells.
    """
    features = features.double()
    deviation, mean = features.std(dim=(0, 2, 3)), features.mean(dim=(0, 2, 3))
    return (deviation <= share * mean.abs()) & ~dead_channels(features)


def teacher_entropy(logits: Tensor) -> Tensor:
    """Mean entropy of softmax over logits `[N, K]` as a share of log K: 1 = uniform, 0 = one answer for each image.

    A scalar in float32, whatever the logits are in, that stays on the device. DINO collapses towards either end (Caron
    et al., "Emerging properties", ICCV 2021, section 5.3).
    """
    log_share = torch.log_softmax(logits.float(), dim=-1)
    entropy = -(log_share.exp() * log_share).sum(-1)
    return entropy.mean() / log(logits.shape[-1])


@torch.no_grad()
def feature_statistics(network: nn.Module, images: Iterable[Tensor]) -> dict[str, float]:
    """`rank_me`, `channel_distance` and `active_channels` of a timm network over batches of images `[B, C, H, W]`."""
    maps = torch.cat([feature_map(network, batch) for batch in images])
    return {
        "rank_me": rank_me(maps.mean((2, 3))),
        "channel_distance": channel_distance(maps),
        "active_channels": active_channels(maps),
    }
