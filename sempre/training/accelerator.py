"""Devices, processes and precision."""

import time
import warnings
from datetime import timedelta
from functools import cache

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import nn

from sempre.errors import InputError
from sempre.training.allocator import keep_freed_memory

TRIALS = 5  # of each precision; the quickest counts, for others may use the machine
WORTH_IT = 1.15  # times as fast bf16 has to be on a CPU: a resumed run must come to the same answer


def make_accelerator(precision: str, timeout_minutes: float = 30.0) -> Accelerator:
    """An Accelerator for `precision`: "auto" (bf16 where a GPU has it or a CPU is faster by it), "bf16" or "float32".

    A rank that the others have waited for during `timeout_minutes` is taken for hung: they end with an error.

    Raises:
        InputError: for any other precision.
    """
    if precision not in ("auto", "bf16", "float32"):
        raise InputError(f"precision '{precision}' is unknown: choose auto, bf16 or float32")
    # Of accelerate's own call, and of depthwise kernels, whose gradients DDP copies anyway: nothing a user could mend.
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    half = precision == "bf16" or (precision == "auto" and bf16_pays())
    # Without cpu=True, Accelerate takes no notice of the other processes of a launch on CPUs.
    cpu = not torch.cuda.is_available()
    keep_freed_memory()
    handlers = [
        InitProcessGroupKwargs(timeout=timedelta(minutes=timeout_minutes)),
        # Our buffers (centres, memory banks) are the same on every rank: sending them each step would only cost time.
        DistributedDataParallelKwargs(broadcast_buffers=False),
    ]
    return Accelerator(cpu=cpu, mixed_precision="bf16" if half else "no", kwargs_handlers=handlers)


@cache
def bf16_pays() -> bool:
    """Whether bf16 is to be taken: a GPU has it, or on this CPU, measured, a 3x3 convolution is learnt sooner in it."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False  # it would be emulated
    convolution = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    images = torch.zeros(2, 64, 64, 64).contiguous(memory_format=torch.channels_last)
    seconds = {False: [], True: []}
    for _ in range(TRIALS):
        for half in seconds:
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                maps = convolution(images)
            maps.float().sum().backward()
            seconds[half].append(time.perf_counter() - start)
    return min(seconds[False]) > WORTH_IT * min(seconds[True])
