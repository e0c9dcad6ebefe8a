"""Steps whose loss or gradient is not finite: counted, and refused when they are too many."""

from math import isfinite
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from sempre.data.feeding.samplers import epoch_sampler
from sempre.errors import InputError
from sempre.files import write_json
from sempre.training.runs.checkpointing import Progress

BAD_BATCH = "bad_batch.json"
MOST_IN_A_ROW = 10  # steps left out before a run gives up


def refuse_bad_steps(
    steps: dict[str, Tensor], progress: Progress, loader: DataLoader, folder: Path, is_main_process: bool
) -> None:
    """Count in `progress` the steps that were left out.

    Args:
        steps: each loss of the last steps, and whether they were left out (`skipped`), `[steps]`, the mean over ranks.
        progress: after these steps, which are of one epoch.

    Raises:
        InputError: for a loss that is not finite, or the tenth step in a row that was left out; the main process names
            the batch's samples, over all ranks, in `folder/bad_batch.json`.
    """
    skipped = steps["skipped"].bool().tolist()
    for number, loss in enumerate(steps["loss"].tolist()):
        progress.skipped += skipped[number]
        progress.skipped_in_a_row = progress.skipped_in_a_row + 1 if skipped[number] else 0
        if not isfinite(loss):
            problem = f"the loss is {loss:.3g}"
        elif progress.skipped_in_a_row >= MOST_IN_A_ROW:
            problem = f"the gradient is not finite for the {MOST_IN_A_ROW}th time in a row"
        else:
            continue
        back = len(skipped) - 1 - number
        if is_main_process:
            losses = [str(values[number].item()) for name, values in steps.items() if name != "skipped"]
            samples = epoch_sampler(loader).global_batch(progress.batch - 1 - back)
            dataset: Any = loader.dataset
            names = [dataset.name_of(sample) for sample in samples]
            where = {"epoch": progress.epoch, "step": progress.step - back, "losses": losses}
            write_json(folder / BAD_BATCH, where | {"samples": names})
        raise InputError(
            f"{problem} at step {progress.step - back}: see its samples in {folder / BAD_BATCH}, "
            "then start again with a lower rate, under another name"
        )
