"""Grey levels alone as an encoder: what a backbone must beat."""

import torch
from torch import Tensor, nn
from torch.nn import functional

REDUCTIONS = (4, 8, 16, 32)  # px a cell: as the stages of a ConvNeXtV2


class IntensityHistogram(nn.Module):
    """The distribution of grey levels in each cell, in place of a network: `bins` overlapping triangular bins.

    It answers to timm's `forward_intermediates`, with the strides of a ConvNeXtV2's four stages.
    """

    centres: Tensor

    def __init__(self, bins: int = 16):
        super().__init__()
        self.register_buffer("centres", torch.linspace(0, 1, bins))
        self.feature_info = [{"num_chs": bins, "reduction": reduction} for reduction in REDUCTIONS]

    def forward_intermediates(self, images: Tensor, indices: list[int], **_) -> list[Tensor]:
        """Histograms `[B, bins, h, w]` of grey values `[B, 1, H, W]` in [0, 1], each of sum 1."""
        spacing = self.centres[1] - self.centres[0]
        distance = (images - self.centres[:, None, None]).abs() / spacing
        return [functional.avg_pool2d((1 - distance).clamp(min=0), REDUCTIONS[index]) for index in indices]
