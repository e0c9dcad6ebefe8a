"""Predict what pretraining takes of time and memory, from 1 to 1,024 GPUs and from 25 thousand to 100 million images.

    python tools/scaling.py architecture=convnextv2_huge images_a_second=110
    python tools/scaling.py check=true        # fit the model to this machine and test it with two processes

The model is sempre/training/cost_model.py; docs/scaling.md says what the defaults stand for. The check measures
one process at two batch sizes and an all-reduce at two sizes, predicts a two-process step at a third, and measures
that.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import timm
import torch
from accelerate import Accelerator
from timm.models.convnext import ConvNeXtBlock
from torch import nn

from sempre.config import read_options
from sempre.errors import run_command
from sempre.models.packed import PATCH
from sempre.pretraining.masked_autoencoders import FCMAE
from sempre.ranges import Count, Numbers, Positive, PositiveOrZero
from sempre.training.accelerator import make_accelerator
from sempre.training.cost_model import GRADIENT_BYTES, Machine, epoch_seconds, state_bytes, step_time

REPEATS = 5
FITTED_BATCHES, PREDICTED_BATCH = (2, 8), 4  # crops a process
FITTED_PARAMETERS = (10**5, 10**7)


@dataclass
class Options:
    architecture: str = "convnextv2_pico"  # network to model
    images_a_second: Positive = 31.0  # images per second of one GPU; see tools/bench_pretrain.py
    batch_a_gpu: Count = 64  # crops in one step on each GPU
    gpus: Numbers = field(default_factory=lambda: [4**n for n in range(6)])  # numbers of GPUs, one row each
    epochs: Count = 800  # epochs of the run
    images: Numbers = field(default_factory=lambda: [25_000, 1_000_000, 100_000_000])  # of the set, a column each
    network_gigabytes: Positive = 20.0  # all-reduce speed between nodes, GB/s
    latency_microseconds: PositiveOrZero = 20.0  # delay of a message between nodes, us
    storage_gigabytes: Positive = 10.0  # read speed of all nodes together, GB/s; with stage_to=: of their own disks
    loader_crops: Positive = 5000.0  # crops per second of one GPU's loaders; see tools/bench_loader.py
    check: bool = False  # test the model with two processes of this machine
    size: Count = 128  # side of the crops of the check, px
    measure: str = ""  # used by the script itself: measurement of a process of the check


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    if options.measure:
        measure(options)
    elif options.check:
        check(options)
    else:
        predict(options)
    return 0


def predict(options: Options) -> None:
    machine = Machine(
        options.images_a_second,
        options.network_gigabytes * 1e9,
        options.latency_microseconds * 1e-6,
        options.storage_gigabytes * 1e9,
        options.loader_crops,
    )
    parameters, gathered = count_parameters(options.architecture)
    print(
        f"{options.architecture}, {parameters / 1e6:.1f} M parameters: weights, gradients and moments are "
        f"{state_bytes(parameters) / 1e6:,.0f} MB a GPU, sharded as shown; hours and GPU-hours of {options.epochs} "
        "epochs of so many images"
    )
    print(
        f"{'GPUs':>5} {'sharded MB':>10} {'images/s':>10} {'efficiency':>10} {'bound by':>9} "
        + "".join(f"{n:>28,}" for n in options.images)
    )
    for gpus in options.gpus:
        batch = options.batch_a_gpu * gpus
        step = step_time(machine, parameters, gpus, batch)
        speed = batch / step.total
        epochs = [epoch_seconds(machine, parameters, gpus, batch, images) for images in options.images]
        shown = "".join(f"{run_hours(options.epochs * seconds, gpus):>28}" for seconds in epochs)
        efficiency = speed / (gpus * options.images_a_second)
        sharded = state_bytes(parameters, gathered if gpus > 1 else 0, gpus) / 1e6
        print(f"{gpus:>5} {sharded:>10,.0f} {speed:>10,.0f} {efficiency:>10.0%} {step.bound:>9} {shown}")


def run_hours(seconds: float, gpus: int) -> str:
    """Hours and GPU-hours of a run of so many seconds, as in "12 h, 48 GPU-h"; 0 seconds are no step."""
    if not seconds:
        return "(set < batch)"
    hours = [f"{time:.1f}" if time < 10 else f"{time:,.0f}" for time in (seconds / 3600, gpus * seconds / 3600)]
    return f"{hours[0]} h, {hours[1]} GPU-h"


def check(options: Options) -> None:
    """Fit the machine to measurements of its parts, and compare the whole."""
    step = in_processes(1, options, "steps")
    small, large = (step[str(batch)] for batch in FITTED_BATCHES)
    an_image = (large - small) / (FITTED_BATCHES[1] - FITTED_BATCHES[0])
    reduce = in_processes(2, options, "all-reduce")
    few, many = (reduce[str(count)] for count in FITTED_PARAMETERS)
    machine = Machine(
        images_a_second=1 / an_image,
        network_bytes_a_second=(FITTED_PARAMETERS[1] - FITTED_PARAMETERS[0]) * GRADIENT_BYTES / (many - few),
        network_latency=few / 2,
        storage_bytes_a_second=float("inf"),
        loader_crops_a_second=float("inf"),
        step_overhead=max(0.0, small - FITTED_BATCHES[0] * an_image),
        overlap=0.0,  # the cores that compute are the cores that communicate
    )
    print(
        f"fitted: {machine.images_a_second:.1f} images/s a process, {1e3 * machine.step_overhead:.1f} ms a step, "
        f"all-reduce {machine.network_bytes_a_second / 1e9:.2f} GB/s, {1e6 * machine.network_latency:.0f} us"
    )
    parameters, _ = count_parameters(options.architecture)
    predicted = step_time(machine, parameters, 2, 2 * PREDICTED_BATCH).total
    measured = in_processes(2, options, "steps")[str(PREDICTED_BATCH)]
    print(
        f"two processes, {2 * PREDICTED_BATCH} crops: predicted {predicted:.3f} s, measured {measured:.3f} s: "
        f"{predicted / measured:.2f}x"
    )


def in_processes(count: int, options: Options, what: str) -> dict[str, float]:
    """What the first of `count` processes of one thread each measures."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    arguments = [__file__, f"measure={what}", f"architecture={options.architecture}", f"size={options.size}"]
    finished = subprocess.run(
        [sys.executable, *launch, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(finished.stdout.splitlines()[-1])


def measure(options: Options) -> None:
    torch.set_num_threads(1)
    accelerator = make_accelerator("float32")
    if options.measure == "all-reduce":
        seconds = {}
        for count in FITTED_PARAMETERS:
            gradient = torch.ones(count)
            seconds[count] = median_seconds(lambda gradient=gradient: accelerator.reduce(gradient))
    else:
        batches = (*FITTED_BATCHES, PREDICTED_BATCH)
        seconds = {batch: median_seconds(make_step(options, batch, accelerator)) for batch in batches}
    accelerator.print(json.dumps(seconds))


def make_step(options: Options, batch: int, accelerator: Accelerator) -> Callable[[], None]:
    torch.manual_seed(0)
    model = FCMAE(timm.create_model(options.architecture, in_chans=1, num_classes=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model, optimizer = accelerator.prepare(model, optimizer)
    images = torch.randn(batch, 1, options.size, options.size)
    patches = (options.size // PATCH) ** 2
    visible = torch.stack([torch.randperm(patches)[: patches // 2].sort().values for _ in range(batch)])

    def step() -> None:
        accelerator.backward(model(images, visible)["loss"])
        optimizer.step()
        optimizer.zero_grad()

    return step


def median_seconds(act: Callable[[], object]) -> float:
    act()
    durations = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        act()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def count_parameters(architecture: str) -> tuple[int, int]:
    """Parameters of FCMAE with this encoder, and how many of them are whole at once where they are sharded."""

    def count(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)

    with torch.device("meta"):
        model = FCMAE(timm.create_model(architecture, in_chans=1, num_classes=0))
    blocks = [count(module) for module in model.modules() if isinstance(module, ConvNeXtBlock)]
    return count(model), count(model) - sum(blocks) + max(blocks)


if __name__ == "__main__":
    run_command(main)
