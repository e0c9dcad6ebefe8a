"""Losses on the validation split, over all processes."""

from collections import Counter

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch import nn
from torch.utils.data import DataLoader

from sempre.processes import batches_of
from sempre.training.preemption import Stopped, StopSignal
from sempre.training.steps import enough_memory, split_batch


@torch.no_grad()
def mean_losses(
    model: nn.Module,
    loader: DataLoader,
    accelerator: Accelerator,
    accumulation: int = 1,
    stop: StopSignal | None = None,
) -> dict[str, float]:
    """The model's losses, each the mean over all samples of the loaders of all processes.

    A process may have one batch fewer than another, or none, and then knows no loss's name.

    Args:
        accumulation: parts that each batch is put through the model in.
        stop: looked at before each part.

    Raises:
        InputError: when the GPU's memory does not suffice.
        Stopped: on every process, when a signal has stopped one.
    """
    totals: dict[str, torch.Tensor] = {}
    count = 0
    parts = (part for batch in batches_of(loader) for part, _ in split_batch(batch, accumulation))
    with enough_memory(accumulation):
        for part in parts:
            if stop:
                break
            samples = len(next(iter(part.values())))
            for name, value in model(**send_to_device(part, accelerator.device)).items():
                totals[name] = totals.get(name, 0.0) + value * samples
            count += samples
        own = Counter({name: float(total) for name, total in totals.items()})
    samples, sums, stopped = 0, Counter(), False
    for part, samples_of_part, stopped_part in gather_object([(own, count, bool(stop))]):
        sums.update(part)
        samples += samples_of_part
        stopped |= stopped_part
    if stopped:
        raise Stopped
    return {name: total / samples for name, total in sums.items()}
