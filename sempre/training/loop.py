"""The training loop: Accelerate's parts, plus schedule, validation, checkpoints, resumption and logs.

`Trainer.train` is the whole of it; the methods below it are its parts, in the order in which they are called.
"""

import math
import time
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How long a model is trained, and how often it is validated, logged and saved."""

    epochs: int
    seed: int  # of the model's own noise: drop path, dropout, sampled proposals
    accumulation: int = 1  # parts that a process's share of a batch is put through the model in, to save memory
    clip_gradient: float | None = None  # largest norm of the gradient
    validate_every: int = 1  # epochs between two validations; the last epoch is always validated
    patience: int = 0  # validations in a row without a new lowest loss that end the training; 0 never does
    log_every: int = 10  # steps between two lines of the log; whether a checkpoint is due is asked then
    checkpoint_minutes: float = 15.0  # minutes between checkpoints; 0: one with each log line


def nothing(*_: object) -> None:
    """A hook that does nothing."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What a method adds to the loop. The model that a hook is given is not wrapped."""

    # Called with the model and the number of the step, for what else follows a schedule. A step may be begun twice, so
    # what moves with the weights belongs behind the optimiser's step, as the optimiser's own hook.
    before_step: Callable[[Any, int], None] = nothing
    # Called with the model before each step, and with whether the step ends with a line of the log. A model may give
    # further values for the log then, beside its losses.
    watch: Callable[[Any, bool], None] = nothing
    # Called with the model and the number of the step after the backward pass, before gradients are clipped.
    after_backward: Callable[[Any, int], None] = nothing
    # Gives the validation `loss`, and what else is logged, of the model at a step. It may raise `Stopped`, and is then
    # done again when the run goes on. Without it there is no validation.
    validate: Callable[[Any, RunLog, int], dict[str, float]] | None = None
    # Called on the main process with the model and its validation loss, after each validation with a new lowest loss.
    export: Callable[[Any, float], None] = nothing
    export_best: bool = True  # false: `export` is called after every validation


class Trainer:
    """Trains a model, and goes on from the newest checkpoint in `folder/checkpoints`.

    Args:
        model: takes a batch of `loader` as keyword arguments, gives a dict of scalar losses; `loss` is minimised.
        optimizer: torch's SGD, Adam or AdamW.
        loader: its `batch_sampler` is an `EpochSampler` that already yields this process's share.
        rate: the learning rate at a step.
        stop: the process's signals, where it has to answer them outside of the training, too.

    Raises:
        InputError: when the newest checkpoint is damaged, or another network's.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loader: DataLoader,
        rate: Callable[[int], float],
        options: LoopOptions,
        hooks: Hooks | None = None,
        *,
        accelerator: Accelerator,
        folder: Path,
        stop: StopSignal | None = None,
    ):
        self.model, self.optimizer, self.loader, self.rate = model, optimizer, loader, rate
        self.options, self.hooks, self.accelerator, self.folder = options, hooks or Hooks(), accelerator, folder
        self.sampler = epoch_sampler(loader)
        self.progress = Progress()
        self.state = TrainingState(model, optimizer, self.progress)
        folder.mkdir(parents=True, exist_ok=True)
        self.weights = Weights(model, optimizer, accelerator)
        load_checkpoint(self.state, folder / "checkpoints", accelerator)
        self.guard = GuardedStep(model, optimizer)
        self.stop = StopSignal() if stop is None else stop
        self.lookout = Lookout(accelerator, self.stop, self.progress.step)
        self.recent: list[dict[str, Tensor]] = []  # losses of the steps since the log's last line, on the device
        self.log_time = self.save_time = time.monotonic()

    def train(self) -> Progress | None:
        """Train until all epochs are done.

        A step whose gradient is not finite changes nothing, and is counted.

        Returns:
            The progress made, or None when a signal has come: the state is saved, and the same call goes on.

        Raises:
            InputError: when a loss is not finite, or ten gradients in a row (the checkpoint before stays, and
                `folder/bad_batch.json` names the batch's samples), or the GPU's memory does not suffice.
        """
        self.log = self.open_log()
        with closing(self.log), self.stop.held():
            try:
                while not self.is_finished():
                    self.train_epoch()
                    if self.validation_is_due():
                        self.validate()
                    self.end_epoch()
            except Stopped:
                self.write_line()
                self.save()
                return None
            return None if any_rank(self.accelerator, bool(self.stop)) else self.progress

    def open_log(self) -> RunLog:
        steps, validated = self.options.epochs * self.sampler.batches(), self.progress.batch == 0
        return RunLog(self.folder, self.progress.step, steps, self.accelerator.is_main_process, validated)

    def is_finished(self) -> bool:
        return self.progress.epoch >= self.options.epochs or 0 < self.options.patience <= self.progress.stale

    def train_epoch(self) -> None:
        """The steps of this epoch that are not done yet.

        Raises:
            Stopped: on every process, when a signal has come to one.
        """
        self.weights.trained.train()
        self.sampler.set_epoch(self.progress.epoch, self.progress.batch)
        for batch in batches_of(self.loader):
            logged = (self.progress.step + 1) % self.options.log_every == 0
            logged |= self.progress.batch + 1 == self.sampler.batches()
            self.train_step(batch, logged)
            if logged:
                self.write_line()
                if self.save_is_due():
                    self.save()
            if self.lookout.due(self.progress.step) and self.lookout.look(self.progress.step):
                raise Stopped

    def train_step(self, batch: dict, logged: bool) -> None:
        """One step on this process's share of a batch; `logged`: a line of the log follows."""
        step, hooks = self.progress.step, self.hooks
        # Model noise (drop path, proposal sampling) depends on the step alone, so a resumed run repeats it.
        torch.manual_seed(step_seed(self.options.seed, step, self.accelerator.process_index))
        set_rate(self.optimizer, self.rate(step))
        hooks.before_step(self.model, step)
        hooks.watch(self.model, logged)
        self.guard.begin()
        losses = self.backward(batch, self.sampler.samples_of(self.progress.batch))
        hooks.after_backward(self.model, step)
        norm = self.weights.clip_gradient(self.options.clip_gradient or math.inf)
        self.recent.append(losses | {"skipped": self.guard.step(norm).float()})
        self.optimizer.zero_grad()
        self.progress.step += 1
        self.progress.batch += 1
        self.log.advance()

    def backward(self, batch: dict, samples: int) -> dict[str, Tensor]:
        """Add the batch's gradients to the model's parameters; the losses, averaged over the batch's parts.

        Losses and gradients are averaged over the processes afterwards. Where these have unequal shares of the batch,
        each is weighted by its share, so that the average is that of all samples.

        Args:
            batch: this process's share of a global batch.
            samples: of the global batch.

        Raises:
            Stopped: when a signal has come to the only process between two parts, and the step is undone. Several
                processes would have to agree on it for each part.
        """
        totals, ranks = {}, self.accelerator.num_processes
        weight = len(next(iter(batch.values()))) * ranks / samples
        parts = list(split_batch(batch, parts_of_all(samples, ranks, self.options.accumulation)))
        with enough_memory(self.options.accumulation):
            for number, (part, share_of_own) in enumerate(parts, start=1):
                if self.stop and ranks == 1:
                    self.guard.undo()
                    raise Stopped
                share = share_of_own * weight
                with nullcontext() if number == len(parts) else self.weights.unsummed():
                    losses = self.weights.trained(**send_to_device(part, self.accelerator.device, non_blocking=True))
                    self.accelerator.backward(losses["loss"] * share)
                for name, value in losses.items():
                    totals[name] = totals.get(name, 0.0) + value.detach() * share
        return totals

    def write_line(self) -> None:
        """Log the recent steps.

        Reading a loss waits for the device, so this is done once every few steps, at the same steps on all processes.
        """
        if not self.recent:
            return
        steps, newest = _over_ranks(self.recent, self.accelerator)
        seconds = time.monotonic() - self.log_time
        self.progress.seconds += seconds
        refuse_bad_steps(steps, self.progress, self.loader, self.folder, self.accelerator.is_main_process)
        means = {name: float(value.mean()) for name, value in (steps | newest).items()}
        means["skipped"] = int(steps["skipped"].sum())
        if means["skipped"]:
            self.log.say(
                f"up to step {self.progress.step}, {means['skipped']} left out: their gradients were not finite"
            )
        speed = len(self.recent) / seconds
        rate = self.rate(self.progress.step - 1)
        self.log.write(self.progress.step, "train", **means, rate=rate, steps_a_second=speed)
        self.log.estimate(speed, self.accelerator.num_processes)
        self.recent, self.log_time = [], time.monotonic()

    def validation_is_due(self) -> bool:
        if self.hooks.validate is None:
            return False
        epoch = self.progress.epoch + 1
        return epoch % self.options.validate_every == 0 or epoch == self.options.epochs

    def validate(self) -> None:
        """Log the validation losses, and export the model where it is wanted.

        Raises:
            Stopped: on every process, when a signal has stopped one.
        """
        progress = self.progress
        with self.weights.whole() as whole:
            values = self.validation_values(whole.eval())
            self.log.write(progress.step, "validation", **values, epoch=progress.epoch + 1)
            lowest = values["loss"] < progress.best
            progress.best = min(progress.best, values["loss"])
            progress.stale = 0 if lowest else progress.stale + 1
            if self.accelerator.is_main_process and (lowest or not self.hooks.export_best):
                self.hooks.export(whole, values["loss"])
        self.log_time = time.monotonic()

    def validation_values(self, model: nn.Module) -> dict[str, float]:
        """What `Hooks.validate` gives; `Stopped` on every process when it was stopped on one."""
        assert self.hooks.validate is not None  # as it is due
        values = None
        with suppress(Stopped):
            values = self.hooks.validate(model, self.log, self.progress.step)
        if any_rank(self.accelerator, values is None) or values is None:
            raise Stopped
        return values

    def end_epoch(self) -> None:
        self.progress.epoch += 1
        self.progress.batch = 0
        if self.is_finished() or self.save_is_due():
            self.save()

    def save_is_due(self) -> bool:
        """The same on all processes: their clocks differ, and the main process decides."""
        seconds = time.monotonic() - self.save_time
        due = self.accelerator.is_main_process and seconds >= 60 * self.options.checkpoint_minutes
        return any_rank(self.accelerator, due)

    def save(self) -> None:
        """Write a checkpoint; all processes call this at once."""
        if self.accelerator.is_main_process or self.weights.sharded:
            save_checkpoint(self.state, self.folder / "checkpoints", main=self.accelerator.is_main_process)
        self.accelerator.wait_for_everyone()
        self.save_time = time.monotonic()


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
