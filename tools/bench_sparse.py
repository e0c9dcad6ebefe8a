"""What packing the visible tiles saves: seconds an image and peak memory against other ways to encode, in one run.

    python tools/bench_sparse.py
    python tools/bench_sparse.py architecture=convnextv2_base device=cuda batch=32

The others are the masked dense network and, where it is installed (`make minkowski`), MinkowskiEngine. All run the same
weights on the same crops and visible patches, forward and backward, in turns; the medians are shown, and how many times
the packed encoder's each is.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import timm
import torch
from timm.models.convnext import ConvNeXt

from sempre.config import read_options
from sempre.errors import InputError, run_command
from sempre.models.minkowski import MinkowskiEncoder, import_minkowski
from sempre.models.packed import PATCH, PackedEncoder, masked_dense_forward
from sempre.ranges import Count, InnerShare


@dataclass
class Options:
    architecture: str = "convnextv2_atto"  # a timm ConvNeXtV2
    size: Count = 640  # side of the crops, px
    mask_ratio: InnerShare = 0.5  # share of the patches that are hidden
    batch: Count = 2  # crops
    repeats: Count = 5  # timed turns of each method
    device: str = "auto"  # auto: cuda if there is one, else cpu
    threads: Count = 2  # CPU threads
    memory_of: str = ""  # used by the script itself: method whose peak memory (MB) is printed


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    torch.set_num_threads(options.threads)
    # MinkowskiEngine brings an OpenMP and a BLAS of its own, which read this when it is imported.
    os.environ.update(OMP_NUM_THREADS=str(options.threads), OPENBLAS_NUM_THREADS=str(options.threads))
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    steps = make_steps(options, device)
    if options.memory_of:
        print(peak_memory(steps[options.memory_of], device))
        return 0
    seconds = {method: {"forward": [], "forward and backward": []} for method in steps}
    for turn in range(options.repeats + 1):  # the first warms up
        for method, step in steps.items():
            for part, backward in (("forward", False), ("forward and backward", True)):
                duration = timed(lambda step=step, backward=backward: step(backward), device)
                if turn:
                    seconds[method][part].append(duration / options.batch)
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {options.threads} threads"
    print(f"{options.architecture}, {options.size}x{options.size} px, {options.mask_ratio:.0%} masked, {where}")
    for part in ("forward", "forward and backward"):
        print_row(part, {method: statistics.median(seconds[method][part]) for method in steps}, "s an image", 3)
    # Peaks of one process never fall again: each method is measured in its own.
    print_row("peak memory", {method: memory_in_own_process(options, method) for method in steps}, "MB", 0)
    return 0


def print_row(label: str, values: dict[str, float], unit: str, digits: int) -> None:
    shown = (f"{name} {value:.{digits}f} {unit} ({value / values['packed']:.2f}x)" for name, value in values.items())
    print(f"{label:21} {', '.join(shown)}")


def make_steps(options: Options, device: str) -> dict[str, Callable[[bool], None]]:
    torch.manual_seed(0)
    network = cast(ConvNeXt, timm.create_model(options.architecture, in_chans=1, num_classes=0)).to(device)
    encoder = PackedEncoder(network)
    images = torch.randn(options.batch, 1, options.size, options.size, device=device)
    patches = (options.size // PATCH) ** 2
    kept = patches - round(patches * options.mask_ratio)
    visible = torch.stack([torch.randperm(patches)[:kept] for _ in range(options.batch)]).to(device)
    forwards = {
        "packed": lambda: encoder(images, visible),
        "masked dense": lambda: masked_dense_forward(network, images, visible),
    }
    if has_minkowski(device):
        sparse = MinkowskiEncoder(network)
        forwards["MinkowskiEngine"] = lambda: sparse(images, visible)

    def step(forward: Callable[[], torch.Tensor], backward: bool) -> None:
        if not backward:
            with torch.no_grad():
                forward()
            return
        network.zero_grad()
        forward().square().mean().backward()

    return {method: lambda backward, forward=forward: step(forward, backward) for method, forward in forwards.items()}


def has_minkowski(device: str) -> bool:
    try:
        engine = import_minkowski()
        return device == "cpu" or engine.is_cuda_available()
    except InputError:
        return False


def timed(run: Callable[[], None], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(run: Callable[[bool], None], device: str) -> float:
    """MB of one step above what the libraries and the weights take."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        run(True)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    before = peak_resident()
    run(True)
    return peak_resident() - before


def peak_resident() -> float:
    """MB of memory this process has held at the most (Linux; getrusage would count what the parent held too)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1e3


def memory_in_own_process(options: Options, method: str) -> float:
    given = [f"{name}={value}" for name, value in vars(options).items() if name != "memory_of"]
    command = [sys.executable, __file__, *given, f"memory_of={method}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    run_command(main)
