"""Fine-tuning that keeps the epoch that validates best, where there are micrographs to choose it on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from sempre.models.weights.weight_files import load_weights, save_weights
from sempre.training.loop import fit
from sempre.training.runs.logging import RunLog
from sempre.training.runs.preemption import StopSignal
from sempre.training.shared_work import same_buffers


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
