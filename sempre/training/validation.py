"""Losses on the validation side, over all processes."""

from collections import Counter

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch import nn
from torch.utils.data import DataLoader


@torch.no_grad()
def mean_losses(model: nn.Module, loader: DataLoader, accelerator: Accelerator) -> dict[str, float]:
    """The model's losses, each the mean over all samples of the loaders of all processes.

    A process may have one batch fewer than another, or none, and then knows no loss's name.
    """
    totals: dict[str, torch.Tensor] = {}
    count = 0
    for batch in loader:
        samples = len(next(iter(batch.values())))
        for name, value in model(**send_to_device(batch, accelerator.device)).items():
            totals[name] = totals.get(name, 0.0) + value * samples
        count += samples
    own = Counter({name: float(total) for name, total in totals.items()})
    samples, sums = 0, Counter()
    for part, samples_of_part in gather_object([(own, count)]):
        sums.update(part)
        samples += samples_of_part
    return {name: total / samples for name, total in sums.items()}
