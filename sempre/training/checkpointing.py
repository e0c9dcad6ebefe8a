"""Checkpoints that are whole or absent: written beside the old one, flushed, then swapped in by rename."""

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError

from sempre.errors import InputError


@dataclass
class Progress:
    """How far a run has come; `batch` counts inside the epoch, `step` over all epochs."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = float("inf")  # lowest validation loss so far
    seconds: float = 0.0  # spent training, over all sessions of the run

    def state_dict(self) -> dict:
        return asdict(self)

    def load_state_dict(self, state: dict) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def save_checkpoint(accelerator: Accelerator, folder: Path) -> None:
    """Replace the checkpoint `folder` by the accelerator's present state; a kill at any point leaves a valid one.

    Raises:
        InputError: when it cannot be written (full disk, no permission); the previous checkpoint stays.
    """
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    partial = folder.with_name(folder.name + ".partial")
    try:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()
        if not accelerator.is_main_process:
            return
        for path in partial.rglob("*"):
            _flush(path)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        partial.rename(new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        _flush(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except (
        OSError,
        RuntimeError,
        SafetensorError,
    ) as error:  # torch and safetensors report a full disk each in their way
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(
            f"cannot save {folder} ({error}): free some space, then start the same command again"
        ) from error


def load_checkpoint(accelerator: Accelerator, folder: Path) -> bool:
    """Restore the accelerator's state from `folder`; False when there is none yet."""
    whole = [folder, folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")]
    for candidate in whole:
        if candidate.is_dir():
            accelerator.load_state(str(candidate))
            return True
    return False


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
