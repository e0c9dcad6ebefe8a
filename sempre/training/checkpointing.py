"""Checkpoints that are whole and verified, of weights that are whole or sharded over the processes.

Each process keeps a share of everything. A ConvNeXt block's weights are gathered as it is called and freed after it,
those outside of blocks for a whole step. Zhao et al., "PyTorch FSDP: experiences on scaling fully sharded data
parallel", VLDB 2023.

A run keeps the newest two, `last` and `previous`. Each has a manifest of its files' SHA-256s; one that does not agree
with its manifest, or holds what is not finite, is reported and the one before it taken.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, convert_outputs_to_fp32
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from sempre.errors import InputError, one_input_error
from sempre.files import file_sha256, write_json


class Weights:
    """A model's weights as the processes hold them: each process all of them, or its share.

    `trained` is what is called in training, as Accelerate prepared it.

    Args:
        model, optimizer: not wrapped; of sharded weights both hold shares from here on, and the optimiser no state yet.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, accelerator: Accelerator):
        self.model, self.accelerator = model, accelerator
        self.sharded = accelerator.is_fsdp2
        if not self.sharded:
            self.trained = accelerator.prepare(model)
            return
        for weight in model.parameters():  # FSDP2 takes no weights whose channels come last
            weight.data = weight.data.contiguous()
        # Made now, for a model of sharded weights cannot be copied.
        self.copy = _autocast(deepcopy(model), accelerator)
        plugin = accelerator.state.fsdp_plugin
        found = {type(module).__name__ for module in model.modules() if isinstance(module, ConvNeXtBlock)}
        plugin.transformer_cls_names_to_wrap = sorted(found)
        self.trained, _ = accelerator.prepare(_autocast(model, accelerator), optimizer)

    def unsummed(self) -> AbstractContextManager:
        """Inside, gradients are not summed over the processes: those of a batch's parts are, once, with its last.

        Sharded ones are summed with each part, or each process would hold them whole in between.
        """
        return nullcontext() if self.sharded else self.accelerator.no_sync(self.trained)

    def clip_gradient(self, largest: float) -> Tensor:
        """Shorten the gradient to the norm `largest`; the norm that it had, a scalar, over all processes."""
        norm = self.accelerator.clip_grad_norm_(self.trained.parameters(), largest)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    @contextmanager
    def whole(self) -> Iterator[nn.Module]:
        """The model of whole weights, which a process may call as often as it likes, and alone.

        All processes enter at once. Of sharded weights it is a copy, as they are now.
        """
        if not self.sharded:
            yield self.model
            return
        self.copy.load_state_dict(gathered(self.model.state_dict()))
        self.copy.to(self.accelerator.device)
        try:
            yield self.copy
        finally:
            self.copy.to("cpu")


def gathered(values: Mapping[str, Any], keep: bool = True) -> dict[str, Any]:
    """`values` with the sharded tensors among them made whole, on the CPU, in all processes that `keep` any.

    All have to ask for them at once.
    """
    kept = {}
    for name, value in values.items():
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        if keep:
            kept[name] = whole.cpu() if isinstance(value, DTensor) else whole
    return kept


def share_of(value: Any, like: Any) -> Any:
    """This process's share of the tensor `value`, which all processes have, if `like`, of its shape, is sharded."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _autocast(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model with the mixed precision that Accelerate gives to all but sharded ones: of calls, not of weights."""
    model.forward = convert_outputs_to_fp32(accelerator.autocast()(model.forward))
    return model


WEIGHTS, OPTIMIZER, PROGRESS, MANIFEST = "model.safetensors", "optimizer.pt", "progress.json", "manifest.json"
MOST = 1 << 60  # steps, epochs and batches: more were never counted
SHOWN = 200  # letters of what torch says of weights that do not fit


@dataclass
class Progress:
    """How far a run has come; `batch` counts inside the epoch, `step` over all epochs."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = float("inf")  # lowest validation loss so far
    stale: int = 0  # validations in a row since it
    seconds: float = 0.0  # spent training, over all sessions of the run
    skipped: int = 0  # steps left out, for their gradients were not finite
    skipped_in_a_row: int = 0  # of them, those since the last step that was not


@dataclass
class TrainingState:
    """All that a run is made of. Random generators are not: their seeds are functions of the step and the sample."""

    model: nn.Module  # not wrapped, so that its checkpoint loads under any number of processes
    optimizer: Optimizer
    progress: Progress


def save_checkpoint(state: TrainingState, folder: Path, main: bool = True) -> None:
    """Make `state` the checkpoint `folder/last`, and what was there `folder/previous`.

    For the main process alone, unless weights are sharded: then for all processes, of which the `main` one writes. A
    checkpoint is the same whole one either way.

    A kill at any byte leaves a valid checkpoint, at most one older than the newest.

    Raises:
        InputError: when it cannot be written (full disk, no permission), or is not finite; the checkpoints before it
            stay.
    """
    weights = gathered(state.model.state_dict(), keep=main)
    optimizer = state.optimizer.state_dict()
    optimizer["state"] = {number: gathered(values, keep=main) for number, values in optimizer["state"].items()}
    if not main:
        return
    if bad := not_finite(weights) or not_finite(_moments(optimizer)):
        raise InputError(
            f"{bad} is not finite at step {state.progress.step} and is not saved, the checkpoint before it stays: "
            "start again with a lower rate, under another name"
        )
    partial, new = folder / "partial", folder / "new"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, partial / WEIGHTS)
        torch.save(optimizer, partial / OPTIMIZER)
        write_json(partial / PROGRESS, asdict(state.progress))
        for path in partial.iterdir():
            _flush(path)
        write_json(partial / MANIFEST, {"sha256": _checksums(partial)})
        _flush(partial)
        partial.rename(new)
        _promote(folder)
    # torch and safetensors report a full disk each in their way.
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(
            f"cannot save {folder / 'last'} ({error}): free some space, then start the same command again"
        ) from error


def load_checkpoint(state: TrainingState, folder: Path, accelerator: Accelerator) -> bool:
    """Restore `state` from the newest valid checkpoint in `folder`; False when there is none yet.

    Every rank loads what the main process found valid. Damaged checkpoints, and those that are not finite, are reported
    and passed over.

    Raises:
        InputError: when all checkpoints are damaged, or belong to another network.
    """
    found: list = [None, ""]
    if accelerator.is_main_process:
        try:
            found[0] = _newest_valid(folder, report=print)
        except InputError as error:
            found[1] = str(error)
    broadcast_object_list(found)
    path, problem = found
    if problem:
        raise InputError(problem)
    if path is None:
        return False
    with one_input_error(lambda reason: f"{path} is another network's ({reason[:SHOWN]}): give this run another name="):
        own = state.model.state_dict()
        weights = {name: share_of(value, own.get(name)) for name, value in load_file(path / WEIGHTS).items()}
        state.model.load_state_dict(weights)
        optimizer = torch.load(path / OPTIMIZER, map_location="cpu", weights_only=True)
        parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
        for number, values in optimizer["state"].items():
            values.update({name: share_of(value, parameters[number]) for name, value in values.items()})
        state.optimizer.load_state_dict(optimizer)
    vars(state.progress).update(vars(_read_progress(path)))
    return True


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first tensor that holds a value that is not finite; empty when there is none."""
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    return next((name for name, tensor in floats.items() if not tensor.isfinite().all()), "")


def _moments(optimizer_state: dict) -> dict[str, Tensor]:
    """The tensors of an optimiser's `state_dict`."""
    return {
        f"{name} of parameter {number}": value
        for number, values in optimizer_state["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def _newest_valid(folder: Path, report: Callable[[str], None]) -> Path | None:
    if (folder / "new").exists() and not _damage(folder / "new"):
        _promote(folder)  # the kill came between two renames
    damaged = []
    for path in (folder / "last", folder / "previous"):
        if not path.is_dir():
            continue
        problem = _damage(path)
        if not problem:
            if damaged:
                report(f"{damaged[-1]}: going on from {path}")
            return path
        damaged.append(f"{path} is damaged ({problem})")
    if damaged:
        raise InputError(f"{' and '.join(damaged)}: remove {folder} to begin anew")
    return None


def _promote(folder: Path) -> None:
    """`new` becomes `last`, `last` becomes `previous`; at every instant two of the three are there, or the only one."""
    new, last, previous = folder / "new", folder / "last", folder / "previous"
    if last.exists():
        shutil.rmtree(previous, ignore_errors=True)
        last.rename(previous)
    new.rename(last)
    _flush(folder)


def _damage(path: Path) -> str:
    """What is wrong with the checkpoint; empty when it agrees with its manifest, can be read and is finite."""
    try:
        with one_input_error(lambda reason: reason):
            expected = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["sha256"]
            found = _checksums(path)
            if wrong := [name for name in (WEIGHTS, OPTIMIZER, PROGRESS) if found.get(name) != expected.get(name)]:
                return f"{wrong[0]} differs from its checksum"
            _read_progress(path)
            optimizer = torch.load(path / OPTIMIZER, map_location="cpu", weights_only=True)
            bad = not_finite(load_file(path / WEIGHTS)) or not_finite(_moments(optimizer))
    except InputError as error:
        return str(error)
    return f"{bad} is not finite" if bad else ""


def _read_progress(path: Path) -> Progress:
    """Of a checkpoint; ValueError or TypeError for what is none."""
    stored = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
    if isinstance(stored, dict) and stored.get("best", 0.0) is None:
        stored["best"] = Progress.best  # infinite before the first validation, for which JSON has no number
    progress = Progress(**stored)
    for field in fields(Progress):
        value = getattr(progress, field.name)
        whole = field.type is int and type(value) is int and 0 <= value < MOST
        if not whole and not (field.type is float and type(value) in (int, float) and not math.isnan(value)):
            raise ValueError(f"{PROGRESS} says {field.name}={str(value)[:20]}")
    return progress


def _checksums(path: Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint but its manifest."""
    return {file.name: file_sha256(file) for file in sorted(path.iterdir()) if file.name != MANIFEST}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
