"""Fine-tuning that keeps the epoch that validates best, where there are micrographs to choose it on."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import nn

from sempre.models.weight_files import load_weights, save_weights
from sempre.training.loop import Trainer, nothing
from sempre.training.run_folder import RunLog
from sempre.training.scoring import same_buffers


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
