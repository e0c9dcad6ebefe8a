"""Devices, processes, precision, and the memory that tensors no longer need."""

import atexit
import ctypes
import os
import sys
import warnings
from dataclasses import dataclass
from datetime import timedelta

import torch
from accelerate import (
    Accelerator,
    DistributedDataParallelKwargs,
    FullyShardedDataParallelPlugin,
    InitProcessGroupKwargs,
)
from accelerate.utils import DDPCommunicationHookType, DistributedType
from torch.distributed.fsdp import MixedPrecisionPolicy

from sempre.errors import InputError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = (1 << 31) - 1  # bytes, of a C int


def keep_freed_memory() -> None:
    """Keep what is freed for the next tensor, for as long as this process lives.

    glibc hands every large block back to the system, whose pages are then faulted in again for the next layer: a sixth
    of a CPU's training time, a quarter of its time for embedding. Other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, LARGEST)


@dataclass(frozen=True)
class Speed:
    """What may make a GPU or an exchange of gradients faster; docs/scaling.md says when each does.

    `tf32` and `bf16_gradients` round more, the others compute the same, `autotune` and `sharding` in another order.
    """

    tf32: bool = False  # float32 matrix products in TF32, as PyTorch has convolutions anyway
    autotune: bool = False  # cuDNN times its convolutions for each shape and takes the quickest
    static_graph: bool = False  # DDP relies on each step using the same parameters
    bucket_view: bool = False  # gradients lie in DDP's buckets, not in copies beside them
    bf16_gradients: bool = False  # gradients are summed in bf16: half the bytes
    sharding: str = "none"  # or "full": each process holds a share of weights, gradients and moments, by FSDP2, not DDP


TIMEOUT_MINUTES = 30.0  # that processes wait for each other, where nothing else is said


def make_accelerator(
    precision: str, timeout_minutes: float = TIMEOUT_MINUTES, speed: Speed | None = None
) -> Accelerator:
    """An Accelerator for `precision`: "auto" (bf16 where GPU or CPU compute in it), "bf16" or "float32".

    A rank that the others have waited for during `timeout_minutes` is taken for hung: they end with an error.
    However the process ends, it ends its process group first.

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
    speed = speed or Speed()
    torch.backends.cuda.matmul.allow_tf32 = speed.tf32
    torch.backends.cudnn.benchmark = speed.autotune
    handlers = [
        InitProcessGroupKwargs(timeout=timedelta(minutes=timeout_minutes)),
        # Our buffers (centres, memory banks) are the same on every rank: sending them each step would only cost time.
        DistributedDataParallelKwargs(
            broadcast_buffers=False,
            static_graph=speed.static_graph,
            gradient_as_bucket_view=speed.bucket_view,
            comm_hook=DDPCommunicationHookType.BF16 if speed.bf16_gradients else DDPCommunicationHookType.NO,
        ),
    ]
    plugin = sharding_plugin(speed) if speed.sharding == "full" else None
    if cpu:
        atexit.register(end_process_group)
    mixed_precision = "bf16" if half else "no"
    accelerator = Accelerator(cpu=cpu, mixed_precision=mixed_precision, kwargs_handlers=handlers, fsdp_plugin=plugin)
    if cpu and plugin is not None and accelerator.num_processes > 1:
        # On CPUs Accelerate passes over the plugin without a word, and wraps in DDP.
        accelerator.state.distributed_type, accelerator.state.fsdp_plugin = DistributedType.FSDP, plugin
    return accelerator


def accelerator_of_launch() -> Accelerator | None:
    """That of the processes that a launcher has started, for work that trains no network; None for one alone."""
    return make_accelerator("float32") if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None


def sharding_plugin(speed: Speed) -> FullyShardedDataParallelPlugin:
    """Sharding whose sums are those of DDP: weights are gathered in float32, and what is called is autocast.

    Accelerate's own choice under bf16 rounds the losses to it.
    """
    policy = MixedPrecisionPolicy(reduce_dtype=torch.bfloat16 if speed.bf16_gradients else None)
    return FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", mixed_precision_policy=policy
    )


def end_process_group() -> None:
    """End gloo's threads: left to the interpreter's end they often abort the process there, and a batch system takes a
    run that was finished, saved or refused for one that crashed.

    NCCL's are left alone: they abort nothing, and would wait for ranks that have failed.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def bf16_pays() -> bool:
    """Whether bf16 is to be taken: a GPU has it, or this CPU computes in it.

    Measured on a CPU with AVX-512 bf16: 3x3 convolutions are learnt 1.85 times as fast, a ConvNeXt 1.2 times. It is not
    measured again here: on a busy machine a run and its resumption would come to different answers.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    # Elsewhere bf16 is emulated, and slower.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
