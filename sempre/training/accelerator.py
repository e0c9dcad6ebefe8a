"""Devices, processes and precision."""

import warnings
from datetime import timedelta

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

from sempre.errors import InputError
from sempre.training.allocator import keep_freed_memory


def make_accelerator(precision: str, timeout_minutes: float = 30.0) -> Accelerator:
    """An Accelerator for `precision`: "auto" (bf16 where a GPU has it, else float32), "bf16" or "float32".

    A rank that the others have waited for during `timeout_minutes` is taken for hung: they end with an error.

    Raises:
        InputError: for any other precision.
    """
    if precision not in ("auto", "bf16", "float32"):
        raise InputError(f"precision '{precision}' is unknown: choose auto, bf16 or float32")
    # Of accelerate's own call, and of depthwise kernels, whose gradients DDP copies anyway: nothing a user could mend.
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    half = precision == "bf16" or (precision == "auto" and torch.cuda.is_available() and torch.cuda.is_bf16_supported())
    # Without cpu=True, Accelerate takes no notice of the other processes of a launch on CPUs.
    cpu = not torch.cuda.is_available()
    keep_freed_memory()
    handlers = [
        InitProcessGroupKwargs(timeout=timedelta(minutes=timeout_minutes)),
        # Our buffers (centres, memory banks) are the same on every rank: sending them each step would only cost time.
        DistributedDataParallelKwargs(broadcast_buffers=False),
    ]
    return Accelerator(cpu=cpu, mixed_precision="bf16" if half else "no", kwargs_handlers=handlers)
