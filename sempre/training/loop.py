"""The training loop: Accelerate's parts, plus schedule, validation, checkpoints, resume and logs."""

import math
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from sempre.data.samplers import epoch_sampler
from sempre.processes import batches_of
from sempre.training.checkpointing import Progress, TrainingState, Weights, load_checkpoint, save_checkpoint
from sempre.training.optimisation import set_rate
from sempre.training.preemption import Lookout, Stopped, StopSignal
from sempre.training.run_folder import RunLog
from sempre.training.steps import GuardedStep, enough_memory, parts_of_all, refuse_bad_steps, split_batch


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
    before_step: Callable[[Any, int], None] | None = None,
    watch: Callable[[Any, bool], None] | None = None,
    after_backward: Callable[[Any, int], None] | None = None,
    validate: Callable[[Any, RunLog, int], dict[str, float]] | None = None,
    validate_every: int = 1,
    patience: int = 0,
    export: Callable[[Any, float], None] | None = None,
    export_best: bool = True,
    clip_gradient: float | None = None,
    log_every: int = 10,
    checkpoint_minutes: float = 15.0,
    stop: StopSignal | None = None,
) -> Progress | None:
    """Train `model` until `epochs` are done, going on from the newest checkpoint in `folder/checkpoints`.

    A step whose gradient is not finite changes nothing, and is counted.

    Args:
        model: takes a batch of `loader` as keyword arguments, gives a dict of scalar losses; `loss` is minimised.
        optimizer: torch's SGD, Adam or AdamW.
        loader: its `batch_sampler` is an `EpochSampler` that already yields this rank's share.
        rate: the learning rate at a step.
        accumulation: parts that a rank's share of a batch is put through the model in, to save memory.
        before_step: called with the model and the number of the step, for what else follows a schedule. A step may be
            begun twice, so what moves with the weights belongs behind the optimiser's step, as its hook.
        watch: called with the model before each step, and whether the step ends with a line of the log. What the log
            alone needs the model gives only then, beside its losses.
        after_backward: called with the model and the number of the step once its gradients are there, before they are
            clipped.
        validate: gives the validation `loss` and whatever else is to be logged; called every `validate_every` epochs
            and after the last. It may raise `Stopped`, and is then done again when the run goes on.
        patience: validations in a row without a new lowest loss that end the training early; 0 never does.
        export: called on the main process with the model and its validation loss, after each validation or, with
            `export_best`, after those of the lowest loss so far.
        clip_gradient: the gradient's largest norm.
        log_every: steps between two lines of the log; checkpoints are attended to then.
        checkpoint_minutes: between two checkpoints; 0 makes one with every line of the log.
        stop: the process's signals, where it has to answer them outside of the training, too.

    Returns:
        The progress made, or None when a signal has come (the state is saved; finished or not, the same call goes on).

    Raises:
        InputError: when a loss is not finite, or ten gradients in a row (the checkpoint before stays, and
            `folder/bad_batch.json` names the batch's samples), or the GPU's memory does not suffice.
    """
    progress = Progress()
    state = TrainingState(model, optimizer, progress)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = folder / "checkpoints"
    weights = Weights(model, optimizer, accelerator)
    load_checkpoint(state, checkpoints, accelerator)
    guard = GuardedStep(state.model, optimizer)
    sampler = epoch_sampler(loader)
    steps = epochs * sampler.batches()
    log = RunLog(folder, progress.step, steps, accelerator.is_main_process, validated=progress.batch == 0)
    stop = StopSignal() if stop is None else stop
    lookout = Lookout(accelerator, stop, progress.step)
    recent: list[dict[str, Tensor]] = []  # what the model gave in the steps since the log's last line, on the device
    log_time, save_time = time.monotonic(), time.monotonic()

    def save() -> None:
        nonlocal save_time
        if accelerator.is_main_process or weights.sharded:
            save_checkpoint(state, checkpoints, main=accelerator.is_main_process)
        accelerator.wait_for_everyone()
        save_time = time.monotonic()

    def save_is_due() -> bool:
        # The clocks of the ranks differ: the main process decides.
        due = accelerator.is_main_process and time.monotonic() - save_time >= 60 * checkpoint_minutes
        return any_rank(accelerator, due)

    def write_line() -> None:
        """Log the recent steps. Reading a loss waits for the device: once every few steps, at the same on all ranks."""
        nonlocal recent, log_time
        if not recent:
            return
        steps, newest = _over_ranks(recent, accelerator)
        seconds = time.monotonic() - log_time
        progress.seconds += seconds
        refuse_bad_steps(steps, progress, loader, folder, accelerator.is_main_process)
        means = {name: float(value.mean()) for name, value in (steps | newest).items()}
        means["skipped"] = int(steps["skipped"].sum())
        if means["skipped"]:
            log.say(f"up to step {progress.step}, {means['skipped']} left out: their gradients were not finite")
        speed = len(recent) / seconds
        log.write(progress.step, "train", **means, rate=rate(progress.step - 1), steps_a_second=speed)
        log.estimate(speed, accelerator.num_processes)
        recent, log_time = [], time.monotonic()

    def save_and_leave() -> None:
        write_line()
        save()

    def is_finished() -> bool:
        return progress.epoch >= epochs or 0 < patience <= progress.stale

    with closing(log), stop.held():
        while not is_finished():
            weights.trained.train()
            sampler.set_epoch(progress.epoch, progress.batch)
            for batch in batches_of(loader):
                # Model noise (drop path, proposal sampling) depends on the step alone, so a resumed run repeats it.
                torch.manual_seed(step_seed(seed, progress.step, accelerator.process_index))
                set_rate(optimizer, rate(progress.step))
                if before_step is not None:
                    before_step(state.model, progress.step)
                logged = (progress.step + 1) % log_every == 0 or progress.batch + 1 == sampler.batches()
                if watch is not None:
                    watch(state.model, logged)
                guard.begin()
                samples = sampler.samples_of(progress.batch)
                losses = _gradients(weights, batch, samples, accumulation, stop)
                if losses is None:
                    guard.undo()
                    save_and_leave()
                    return None
                if after_backward is not None:
                    after_backward(state.model, progress.step)
                norm = weights.clip_gradient(clip_gradient or math.inf)
                recent.append(losses | {"skipped": guard.step(norm).float()})
                optimizer.zero_grad()
                progress.step += 1
                progress.batch += 1
                log.advance()
                if logged:
                    write_line()
                    if save_is_due():
                        save()
                if lookout.due(progress.step) and lookout.look(progress.step):
                    save_and_leave()
                    return None

            if validate is not None and ((progress.epoch + 1) % validate_every == 0 or progress.epoch + 1 == epochs):
                with weights.whole() as whole:
                    values = _unless_stopped(validate, whole.eval(), log, progress.step)
                    if any_rank(accelerator, values is None) or values is None:
                        save_and_leave()
                        return None
                    log.write(progress.step, "validation", **values, epoch=progress.epoch + 1)
                    lowest = values["loss"] < progress.best
                    progress.best = min(progress.best, values["loss"])
                    progress.stale = 0 if lowest else progress.stale + 1
                    if export is not None and accelerator.is_main_process and (lowest or not export_best):
                        export(whole, values["loss"])
                log_time = time.monotonic()
            progress.epoch += 1
            progress.batch = 0
            if is_finished() or save_is_due():
                save()
        return None if any_rank(accelerator, bool(stop)) else progress


def step_seed(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed that is a function of (seed, step, rank) alone."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def any_rank(accelerator: Accelerator, flag: bool) -> bool:
    """True on every rank when it is true on one."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)).item() > 0)


def _over_ranks(
    recent: list[dict[str, Tensor]], accelerator: Accelerator
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Means over all ranks, on the CPU: of what every step gave, `[steps]` a name, and of what only the last did."""
    always = list(recent[0])
    once = [name for name in recent[-1] if name not in recent[0]]
    values = [step[name] for name in always for step in recent] + [recent[-1][name] for name in once]
    values = accelerator.reduce(torch.stack(values).detach().float(), "mean").cpu()
    steps = values[: len(always) * len(recent)].view(len(always), len(recent))
    return dict(zip(always, steps, strict=True)), dict(zip(once, values[steps.numel() :], strict=True))


def _gradients(
    weights: Weights, batch: dict, samples: int, accumulation: int, stop: StopSignal
) -> dict[str, Tensor] | None:
    """Add the batch's gradients to the model's parameters; the losses, averaged over the batch's parts.

    Losses and gradients are averaged over the processes afterwards. Where these have unequal shares of the batch, each
    is weighted by its share, so that the average is that of all samples.

    Args:
        batch: this process's share of a global batch.
        samples: of the global batch.

    Returns:
        None when a signal has come to the only process between two parts; several would have to agree, for each part.
    """
    totals, accelerator = {}, weights.accelerator
    ranks = accelerator.num_processes
    weight = len(next(iter(batch.values()))) * ranks / samples
    parts = list(split_batch(batch, parts_of_all(samples, ranks, accumulation)))
    with enough_memory(accumulation):
        for number, (part, share_of_own) in enumerate(parts, start=1):
            share = share_of_own * weight
            if stop and accelerator.num_processes == 1:
                return None
            with nullcontext() if number == len(parts) else weights.unsummed():
                losses = weights.trained(**send_to_device(part, accelerator.device, non_blocking=True))
                accelerator.backward(losses["loss"] * share)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value.detach() * share
    return totals


def _unless_stopped(validate: Callable, *arguments: object) -> dict[str, float] | None:
    """What `validate` gives; None when it has been stopped."""
    try:
        return validate(*arguments)
    except Stopped:
        return None
