"""Validation: losses over all processes, and the epoch that validates best."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from sempre.models.weight_files import load_weights, save_weights
from sempre.processes import batches_of
from sempre.training.loop import fit
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


def fit_to_best(
    model: nn.Module,
    optimizer: Optimizer,
    loader: DataLoader,
    *,
    kept: nn.Module,
    aji_plus: Callable[[np.ndarray], float],
    validating: np.ndarray,
    validate_every: int,
    folder: Path,
    stop: StopSignal | None,
    settle: Callable[[], None] | None = None,
    **others: Any,
) -> bool:
    """Train as `sempre.training.loop.fit` does, and give `kept` the weights of the validated epoch of highest AJI+.

    They lie in `folder/best.safetensors` meanwhile. Without micrographs to validate on, `kept` is left with those of
    the last epoch.

    Args:
        kept: the part of `model` that is wanted in the end.
        aji_plus: the mean AJI+ of `kept`, as it is then, on the micrographs at these positions of the labelled set. All
            processes call it at once, for the same weights, and it gives all the same.
        validating: the positions, `[N]`; none chooses no epoch.
        validate_every: epochs between two validations; 0 chooses no epoch.
        settle: called before each validation, or once after the last epoch where there is none: whatever `kept` needs
            beside its weights. What it does is kept with them.
        others: arguments of `fit`.

    Returns:
        False when a signal has stopped it.

    Raises:
        InputError: as `fit`.
    """
    best = folder / "best.safetensors"
    choosing = validate_every > 0 and len(validating) > 0

    def validate(model: nn.Module, log: RunLog, step: int) -> dict[str, float]:
        if settle is not None:
            settle()
        same_buffers(kept)
        score = aji_plus(validating)
        return {"loss": 1 - score, "aji_plus": score}

    finished = fit(
        model,
        optimizer,
        loader,
        folder=folder,
        stop=stop,
        validate=validate if choosing else None,
        validate_every=validate_every,
        export=(lambda model, loss: save_weights(kept, best)) if choosing else None,
        **others,
    )
    if finished is None:
        return False
    if choosing:
        load_weights(kept, best)
        return True
    if settle is not None:
        settle()
    same_buffers(kept)
    return True
