"""Batch normalisation's statistics, for weights that training did not keep them for."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def estimate_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the means and variances of batch normalisation to their averages over `batches`, `[B, C, H, W]` each.

    The running averages that training leaves lag behind the weights, and so does what is predicted with them (Wu and
    Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3). The network is in evaluation mode afterwards.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's name for the average over all batches
    network.train()
    for images in batches:
        network(images)
    network.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
