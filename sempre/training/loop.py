"""The training loop: Accelerate's parts, plus schedule, validation, checkpoints, resume and logs."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from sempre.errors import InputError
from sempre.training.checkpointing import Progress, load_checkpoint, save_checkpoint
from sempre.training.logging import RunLog
from sempre.training.preemption import StopSignal
from sempre.training.schedule import set_rate


def make_accelerator(precision: str, accumulation: int = 1) -> Accelerator:
    """An Accelerator for `precision`: "auto" (bf16 where a GPU has it, else float32), "bf16" or "float32".

    Raises:
        InputError: for any other precision.
    """
    if precision not in ("auto", "bf16", "float32"):
        raise InputError(f"precision '{precision}' is unknown: choose auto, bf16 or float32")
    half = precision == "bf16" or (precision == "auto" and torch.cuda.is_available() and torch.cuda.is_bf16_supported())
    # Without cpu=True, Accelerate takes no notice of the other processes of a launch on CPUs.
    cpu = not torch.cuda.is_available()
    return Accelerator(cpu=cpu, mixed_precision="bf16" if half else "no", gradient_accumulation_steps=accumulation)


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    loader: DataLoader,
    *,
    accelerator: Accelerator,
    folder: Path,
    epochs: int,
    rate: Callable[[int], float],
    seed: int,
    validate: Callable[[nn.Module, RunLog, int], float] | None = None,
    validate_every: int = 1,
    on_best: Callable[[nn.Module, float], None] | None = None,
    clip_gradient: float | None = None,
    log_every: int = 10,
    checkpoint_minutes: float = 15.0,
) -> Progress | None:
    """Train `model` until `epochs` are done, going on from `folder/checkpoints/last` when there is one.

    Args:
        model: takes a batch of `loader` as keyword arguments, gives a dict of scalar losses; `loss` is minimised.
        loader: its `batch_sampler` is an `EpochSampler` that already yields this rank's share.
        rate: the learning rate at a step.
        validate: gives the validation loss; called every `validate_every` epochs and after the last.
        on_best: called on the main process when the validation loss is the lowest so far.
        clip_gradient: the gradient's largest norm.

    Returns:
        The progress made, or None when a signal stopped the run early (its state is saved).

    Raises:
        InputError: when a loss is not finite; the checkpoint before it stays.
    """
    model, optimizer = accelerator.prepare(model, optimizer)
    progress = Progress()
    accelerator.register_for_checkpointing(progress)
    last = folder / "checkpoints" / "last"
    last.parent.mkdir(parents=True, exist_ok=True)
    load_checkpoint(accelerator, last)
    log = RunLog(folder, progress.step, epochs * loader.batch_sampler.batches(), accelerator.is_main_process)
    stop = StopSignal()
    losses_since, steps_since, log_time = {}, 0, time.monotonic()
    save_time = time.monotonic()

    with closing(log):
        while progress.epoch < epochs:
            model.train()
            loader.batch_sampler.set_epoch(progress.epoch, progress.batch)
            for batch in loader:
                # Model noise (drop path, proposal sampling) depends on the step alone, so a resumed run repeats it.
                torch.manual_seed(step_seed(seed, progress.step, accelerator.process_index))
                set_rate(optimizer, rate(progress.step))
                with accelerator.accumulate(model):
                    losses = model(**send_to_device(batch, accelerator.device, non_blocking=True))
                    accelerator.backward(losses["loss"])
                    if clip_gradient is not None and accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), clip_gradient)
                    optimizer.step()
                    optimizer.zero_grad()
                progress.step += 1
                progress.batch += 1
                steps_since += 1
                for name, value in losses.items():
                    losses_since[name] = losses_since.get(name, 0.0) + value.detach()
                log.advance()
                # Reading a loss waits for the device: once every few steps, for all ranks at the same ones.
                if progress.step % log_every == 0 or progress.batch == loader.batch_sampler.batches():
                    seconds = time.monotonic() - log_time
                    progress.seconds += seconds
                    means = {name: (total / steps_since).item() for name, total in losses_since.items()}
                    if not np.isfinite(means["loss"]):
                        raise InputError(
                            f"the loss is {means['loss']} at step {progress.step}: "
                            "start again with a lower rate, under another name"
                        )
                    log.write(
                        progress.step,
                        "train",
                        **means,
                        rate=rate(progress.step - 1),
                        steps_a_second=steps_since / seconds,
                    )
                    losses_since, steps_since, log_time = {}, 0, time.monotonic()
                    stopping = _any_rank(accelerator, bool(stop))
                    due = accelerator.is_main_process and time.monotonic() - save_time > 60 * checkpoint_minutes
                    if stopping or _any_rank(accelerator, due):
                        save_checkpoint(accelerator, last)
                        save_time = time.monotonic()
                    if stopping:
                        return None

            progress.epoch += 1
            progress.batch = 0
            if validate is not None and (progress.epoch % validate_every == 0 or progress.epoch == epochs):
                model.eval()
                loss = validate(accelerator.unwrap_model(model), log, progress.step)
                log.write(progress.step, "validation", loss=loss, epoch=progress.epoch)
                if loss < progress.best:
                    progress.best = loss
                    if on_best is not None and accelerator.is_main_process:
                        on_best(accelerator.unwrap_model(model), loss)
                log_time = time.monotonic()
            due = progress.epoch == epochs or time.monotonic() - save_time > 60 * checkpoint_minutes
            if _any_rank(accelerator, due):
                save_checkpoint(accelerator, last)
                save_time = time.monotonic()
    return progress


def step_seed(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed that is a function of (seed, step, rank) alone."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _any_rank(accelerator: Accelerator, flag: bool) -> bool:
    """True on every rank when it is true on one."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)).item() > 0)
