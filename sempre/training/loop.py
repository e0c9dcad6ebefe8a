"""The training loop: Accelerate's parts, plus schedule, validation, checkpoints, resume and logs."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from sempre.errors import InputError
from sempre.files import write_json
from sempre.training.checkpointing import Progress, TrainingState, load_checkpoint, save_checkpoint
from sempre.training.logging import RunLog
from sempre.training.preemption import StopSignal
from sempre.training.schedule import set_rate

BAD_BATCH = "bad_batch.json"


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
    accumulation: int = 1,
    before_step: Callable[[nn.Module, int], None] | None = None,
    validate: Callable[[nn.Module, RunLog, int], dict[str, float]] | None = None,
    validate_every: int = 1,
    patience: int = 0,
    export: Callable[[nn.Module, float], None] | None = None,
    export_best: bool = True,
    clip_gradient: float | None = None,
    log_every: int = 10,
    checkpoint_minutes: float = 15.0,
) -> Progress | None:
    """Train `model` until `epochs` are done, going on from the newest checkpoint in `folder/checkpoints`.

    Args:
        model: takes a batch of `loader` as keyword arguments, gives a dict of scalar losses; `loss` is minimised.
        loader: its `batch_sampler` is an `EpochSampler` that already yields this rank's share.
        rate: the learning rate at a step.
        accumulation: parts that a rank's share of a batch is put through the model in, to save memory.
        before_step: called with the model and the number of the step, for what else follows a schedule.
        validate: gives the validation `loss` and whatever else is to be logged; called every `validate_every` epochs
            and after the last.
        patience: validations in a row without a new lowest loss that end the training early; 0 never does.
        export: called on the main process with the model and its validation loss, after each validation or, with
            `export_best`, after those of the lowest loss so far.
        clip_gradient: the gradient's largest norm.
        log_every: steps between two lines of the log; signals and checkpoints are attended to then.
        checkpoint_minutes: between two checkpoints; 0 makes one with every line of the log.

    Returns:
        The progress made, or None when a signal stopped the run early (its state is saved).

    Raises:
        InputError: when a loss is not finite (the checkpoint before it stays, and `folder/bad_batch.json` names the
            batch's samples), or the GPU's memory does not suffice.
    """
    progress = Progress()
    state = TrainingState(model, optimizer, progress)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = folder / "checkpoints"
    model, optimizer = accelerator.prepare(model, optimizer)
    load_checkpoint(state, checkpoints, accelerator)
    sampler = loader.batch_sampler
    log = RunLog(folder, progress.step, epochs * sampler.batches(), accelerator.is_main_process)
    stop = StopSignal()
    recent, log_time, save_time = [], time.monotonic(), time.monotonic()

    def save() -> None:
        nonlocal save_time
        if accelerator.is_main_process:
            save_checkpoint(state, checkpoints)
        accelerator.wait_for_everyone()
        save_time = time.monotonic()

    def save_is_due() -> bool:
        # The clocks of the ranks differ: the main process decides.
        due = accelerator.is_main_process and time.monotonic() - save_time >= 60 * checkpoint_minutes
        return any_rank(accelerator, due)

    def is_finished() -> bool:
        return progress.epoch >= epochs or 0 < patience <= progress.stale

    with closing(log):
        while not is_finished():
            model.train()
            sampler.set_epoch(progress.epoch, progress.batch)
            for batch in loader:
                # Model noise (drop path, proposal sampling) depends on the step alone, so a resumed run repeats it.
                torch.manual_seed(step_seed(seed, progress.step, accelerator.process_index))
                set_rate(optimizer, rate(progress.step))
                if before_step is not None:
                    before_step(state.model, progress.step)
                recent.append(_gradients(model, batch, accumulation, accelerator))
                if clip_gradient is not None:
                    accelerator.clip_grad_norm_(model.parameters(), clip_gradient)
                optimizer.step()
                optimizer.zero_grad()
                progress.step += 1
                progress.batch += 1
                log.advance()
                # Reading a loss waits for the device: once every few steps, for all ranks at the same ones.
                if progress.step % log_every == 0 or progress.batch == sampler.batches():
                    losses = torch.stack([torch.stack(list(step.values())) for step in recent])  # [steps, losses]
                    losses = accelerator.reduce(losses.detach().float(), "mean").cpu()
                    seconds = time.monotonic() - log_time
                    progress.seconds += seconds
                    means = dict(zip(recent[0], losses.mean(0).tolist(), strict=True))
                    if not np.isfinite(means["loss"]):
                        first = int(torch.isfinite(losses).all(1).logical_not().nonzero()[0])
                        back = len(recent) - 1 - first
                        if accelerator.is_main_process:
                            _write_bad_batch(folder, loader, progress, back, losses[first].tolist())
                        raise InputError(
                            f"the loss is {losses[first][0]:.3g} at step {progress.step - back}: see its samples in "
                            f"{folder / BAD_BATCH}, then start again with a lower rate, under another name"
                        )
                    speed = len(recent) / seconds
                    log.write(progress.step, "train", **means, rate=rate(progress.step - 1), steps_a_second=speed)
                    log.estimate(speed, accelerator.num_processes)
                    recent, log_time = [], time.monotonic()
                    stopping = any_rank(accelerator, bool(stop))
                    if stopping or save_is_due():
                        save()
                    if stopping:
                        return None

            progress.epoch += 1
            progress.batch = 0
            if validate is not None and (progress.epoch % validate_every == 0 or progress.epoch == epochs):
                model.eval()
                values = validate(state.model, log, progress.step)
                log.write(progress.step, "validation", **values, epoch=progress.epoch)
                lowest = values["loss"] < progress.best
                progress.best = min(progress.best, values["loss"])
                progress.stale = 0 if lowest else progress.stale + 1
                if export is not None and accelerator.is_main_process and (lowest or not export_best):
                    export(state.model, values["loss"])
                log_time = time.monotonic()
            if is_finished() or save_is_due():
                save()
    return progress


def step_seed(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed that is a function of (seed, step, rank) alone."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def any_rank(accelerator: Accelerator, flag: bool) -> bool:
    """True on every rank when it is true on one."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)).item() > 0)


def _gradients(model: nn.Module, batch: dict, accumulation: int, accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """Add the batch's gradients to the model's parameters; the losses, averaged over the batch's parts."""
    totals = {}
    parts = list(split_batch(batch, accumulation))
    try:
        for number, (part, share) in enumerate(parts, start=1):
            # The ranks' gradients are summed once a step.
            with nullcontext() if number == len(parts) else accelerator.no_sync(model):
                losses = model(**send_to_device(part, accelerator.device, non_blocking=True))
                accelerator.backward(losses["loss"] * share)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value.detach() * share
    except torch.cuda.OutOfMemoryError as error:
        raise InputError(
            f"the GPU's memory does not suffice for accumulation={accumulation}: "
            f"start the same command again with accumulation={2 * accumulation}"
        ) from error
    return totals


def split_batch(batch: dict, parts: int) -> Iterator[tuple[dict, float]]:
    """`batch`, a dict of tensors and lists over the same samples, in at most `parts` parts; with each its share."""
    samples = len(next(iter(batch.values())))
    size = -(-samples // parts)
    for start in range(0, samples, size):
        part = {name: values[start : start + size] for name, values in batch.items()}
        yield part, len(next(iter(part.values()))) / samples


def _write_bad_batch(folder: Path, loader: DataLoader, progress: Progress, back: int, losses: list[float]) -> None:
    """Name the samples, over all ranks, of the batch that was `back` steps before the last."""
    samples = loader.batch_sampler.global_batch(progress.batch - 1 - back)
    names = [loader.dataset.name_of(sample) for sample in samples]
    where = {"epoch": progress.epoch, "step": progress.step - back, "losses": [str(loss) for loss in losses]}
    write_json(folder / BAD_BATCH, where | {"samples": names})
