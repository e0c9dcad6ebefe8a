"""A step: its batch in parts, the optimiser's step that leaves out what is not finite, and too many such steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from sempre.data.samplers import epoch_sampler
from sempre.errors import InputError
from sempre.files import write_json
from sempre.training.checkpointing import Progress


def split_batch(batch: dict, parts: int) -> Iterator[tuple[dict, float]]:
    """`batch`, a dict of tensors and lists over the same samples, in at most `parts` parts; with each its share.

    The parts differ by one sample at most, and none is empty.
    """
    samples = len(next(iter(batch.values())))
    parts = min(parts, samples)
    ends = [-(-samples * part // parts) for part in range(parts + 1)]  # the larger parts come first
    for start, end in pairwise(ends):
        yield {name: values[start:end] for name, values in batch.items()}, (end - start) / samples


def parts_of_all(samples: int, ranks: int, parts: int) -> int:
    """In how many parts every rank computes its share of a global batch of `samples`.

    It is the same number on all ranks, for with sharded weights each part is a collective call: `parts`, or as many as
    the smallest share has samples.

    Args:
        samples: of the global batch, at least one a rank.
        ranks: over which they are divided as evenly as can be.
        parts: that are asked for.
    """
    return min(parts, samples // ranks)


@contextmanager
def enough_memory(accumulation: int) -> Iterator[None]:
    """What is computed inside is a batch in `accumulation` parts.

    Raises:
        InputError: when the GPU's memory does not suffice for it.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise InputError(
            f"the GPU's memory does not suffice for accumulation={accumulation}: "
            f"start the same command again with accumulation={2 * accumulation}"
        ) from error


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


class GuardedStep:
    """Steps of torch's SGD, Adam or AdamW that change nothing where the gradient's norm is not finite.

    The optimiser's fused kernels look at the verdict on the device; it is the one that they know from loss scaling.
    What else a step changes is put back: running statistics, memory banks, a centre (the model's buffers), and moving
    averages of the weights, which follow behind the optimiser's step (the model's parameters that it does not train).

    A step is: `begin()`, forward and backward, `step(norm)`.

    Args:
        model: whose buffers are put back; not wrapped.
        optimizer: torch's own, its state already loaded, if any.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer):
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        # Of sharded weights, which no method with averages has, the rest are those of heads that never change.
        followers = [w for w in model.parameters() if id(w) not in trained and not isinstance(w, DTensor)]
        self.buffers, self.optimizer = [*model.buffers(), *followers], optimizer
        self.before: list[Tensor] = []
        for group in optimizer.param_groups:
            group["fused"], group["foreach"] = True, False
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                if "step" in state:  # of a checkpoint whose steps were counted on the CPU
                    state["step"] = state["step"].to(parameter.device, torch.float32)
                if group.get("momentum") and state.get("momentum_buffer") is None:
                    # The kernel leaves momentum uninitialised when the very first step is the one left out.
                    state["momentum_buffer"] = torch.zeros_like(parameter)

    def begin(self) -> None:
        """Remember the buffers, and the parameters that are not the optimiser's."""
        self.before = [buffer.detach().clone() for buffer in self.buffers]

    @torch.no_grad()
    def undo(self) -> None:
        """Put the buffers back and drop the gradients, in place of the step."""
        for buffer, before in zip(self.buffers, self.before, strict=True):
            buffer.copy_(before)
        self.optimizer.zero_grad()

    @torch.no_grad()
    def step(self, norm: Tensor) -> Tensor:
        """The optimiser's step if the gradient's `norm`, a scalar, is finite; whether it was left out, bool."""
        skipped = norm.isfinite().logical_not()
        self.optimizer.found_inf = skipped.float()  # pyright: ignore[reportAttributeAccessIssue]  # loss scaling's
        self.optimizer.step()
        for buffer, before in zip(self.buffers, self.before, strict=True):
            buffer.copy_(torch.where(skipped, before, buffer))
        return skipped
