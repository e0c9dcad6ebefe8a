"""Validation: losses over all processes, and the epoch that validates best."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch import nn
from torch.utils.data import DataLoader

from sempre.models.weight_files import load_weights, save_weights
from sempre.processes import batches_of
from sempre.training.loop import Trainer, nothing
from sempre.training.preemption import Stopped, StopSignal
from sempre.training.run_folder import RunLog
from sempre.training.scoring import same_buffers
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


def train_to_best(
    trainer: Trainer,
    *,
    kept: nn.Module,
    aji_plus: Callable[[np.ndarray], float],
    validating: np.ndarray,
    settle: Callable[[], None] = nothing,
) -> bool:
    """Train, and give `kept` the weights of the validated epoch of highest AJI+.

    They lie in `best.safetensors` in the trainer's folder meanwhile. Without micrographs to validate on, `kept` is left
    with those of the last epoch.

    Args:
        trainer: without hooks for validation and export, which are set here; its `validate_every` of 0 chooses no
            epoch.
        kept: the part of the trained model that is wanted in the end.
        aji_plus: the mean AJI+ of `kept`, as it is then, on the micrographs at these positions of the labelled set. All
            processes call it at once, for the same weights, and it gives all the same.
        validating: the positions, `[N]`; none chooses no epoch.
        settle: called before each validation, or once after the last epoch where there is none: whatever `kept` needs
            beside its weights. What it does is kept with them.

    Returns:
        False when a signal has stopped it.

    Raises:
        InputError: as `Trainer.train`.
    """
    best = trainer.folder / "best.safetensors"
    choosing = trainer.options.validate_every > 0 and len(validating) > 0

    def validate(model: nn.Module, log: RunLog, step: int) -> dict[str, float]:
        settle()
        same_buffers(kept)
        score = aji_plus(validating)
        return {"loss": 1 - score, "aji_plus": score}

    if choosing:
        trainer.hooks = replace(trainer.hooks, validate=validate, export=lambda model, loss: save_weights(kept, best))
    if trainer.train() is None:
        return False
    if choosing:
        load_weights(kept, best)
        return True
    settle()
    same_buffers(kept)
    return True
