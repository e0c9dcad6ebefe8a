"""Images a second of FCMAE pretraining on one device: network by network, and what each measure brings.

    python tools/bench_pretrain.py gpu=true                               # all of it, in less than eight minutes
    python tools/bench_pretrain.py                                        # what the device at hand can hold
    python tools/bench_pretrain.py architectures=[convnextv2_pico] batch=128

Whole steps are timed (forward, backward, fused AdamW) on the same crops, the last row of a network with crops from a
store through the loader; "masked dense" is the same objective by the network that computes the hidden cells too. "of
matmul" is the share of the device's rate in large matrix products, measured in the same run, that the network's own
operations reach (counted by torch, forward and backward of the packed encoder); "of bandwidth" the share of its
measured copying rate that one pass over the operations' inputs and outputs would take, so that more than all of it
says that a compiled network keeps values from being written. "of study" is against what Rettenberger et al. come to on
an A100 (docs/scaling.md). Rows that no time is left for are left out, and said to be. The table is also in `out`.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import timm
import torch
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from sempre.config import read_options
from sempre.data.crops import CropDataset
from sempre.data.samplers import EpochSampler
from sempre.data.shards import open_store
from sempre.data.store_writer import StoredImage, StoreWriter
from sempre.errors import InputError, run_command
from sempre.files import write_csv
from sempre.models.packed import PATCH, PackedEncoder, masked_dense_forward
from sempre.pretraining.masked_autoencoders import FCMAE, random_visible
from sempre.ranges import Count, CountOrZero, InnerShare, Positive
from sempre.training.accelerator import Speed, make_accelerator

GIGA = 1e9
STUDY = {"convnextv2_atto": 31.0, "convnextv2_huge": 5.5}  # images a second and A100
WARM_UP = 3  # steps that compile, and find the quickest convolutions


@dataclass
class Options:
    architectures: list[str] = field(default_factory=list)  # timm names of ConvNeXtV2; []: suited to the device
    size: Count = 640  # side of the crops, px
    mask_ratio: InnerShare = 0.5  # share of the patches that are hidden
    batch: CountOrZero = 0  # crops in one step; 0: chosen from the device's memory
    steps: Count = 20  # timed steps of each row
    workers: CountOrZero = 8  # loader processes of the last row
    micrographs: Count = 64  # number of micrographs (1200x1920 px) in the loader's store
    compile: bool = True  # also time the compiled network
    gpu: bool = False  # require a GPU, and time Atto, Pico, Base and Huge
    minutes: Positive = 7.5  # time limit, minutes; skip rows expected to exceed it
    out: str = "bench_pretrain.csv"  # CSV file for the table


@dataclass(frozen=True)
class Variant:
    """What is switched on for a row."""

    name: str
    precision: str = "float32"
    channels_last: bool = False
    compiled: bool = False
    loader: bool = False
    dense: bool = False  # the masked dense network


VARIANTS = (
    Variant("masked dense, bf16, channels last", "bf16", channels_last=True, dense=True),
    Variant("eager, float32"),
    Variant("eager, bf16", "bf16"),
    Variant("eager, bf16, channels last", "bf16", channels_last=True),
    Variant("compiled, bf16", "bf16", compiled=True),
    Variant("compiled, bf16, channels last", "bf16", channels_last=True, compiled=True),
)


class MaskedDense(PackedEncoder):
    """The dense network with masked cells set to zero, in the place of the packed encoder."""

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        return masked_dense_forward(self.network, images, visible)


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    begin = time.monotonic()
    gpu = torch.cuda.is_available()
    if options.gpu and not gpu:
        raise InputError("gpu=true, but PyTorch sees no GPU: leave it out to measure the CPU")
    device = torch.device("cuda" if gpu else "cpu")
    sizes = ("atto", "pico", "base", "huge") if gpu else ("atto",)
    architectures = options.architectures or [f"convnextv2_{size}" for size in sizes]
    matmul, bandwidth = matmul_rate(device), copy_rate(device)
    variants = [row if gpu else replace(row, precision="float32") for row in VARIANTS if gpu or "float32" in row.name]
    if not gpu:
        variants = [replace(VARIANTS[0], name="masked dense, float32", precision="float32"), *variants]
        variants.append(Variant("compiled, float32", compiled=True))
    variants = [variant for variant in variants if options.compile or not variant.compiled]
    variants.append(replace(variants[-1], name="the same with the loader", loader=True))
    name = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{name}: {matmul / 1e12:.3g} TFLOP/s in {'bf16' if gpu else 'float32'} matrix products, "
        f"{bandwidth / GIGA:.0f} GB/s copied"
    )
    rows, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store.h5", options.micrographs)
        for architecture in architectures:
            batch = options.batch or suggested_batch(architecture, device)
            loader = make_loader(store, options, batch)
            print(f"\n{architecture}, {options.size}x{options.size} px, batch {batch}")
            operations, moved = demands_an_image(architecture, options, 2 if gpu else 4)
            for variant in variants:
                since = time.monotonic()
                if since - begin + slowest > 60 * options.minutes:
                    print(f"  {variant.name:<34} left out: {options.minutes:g} minutes are over", flush=True)
                    continue
                row = {"device": name, "architecture": architecture, "batch": batch, "variant": variant.name}
                try:
                    speed, memory = measure(architecture, variant, batch, loader, options, device)
                except torch.OutOfMemoryError:
                    torch.cuda.empty_cache()
                    print(f"  {variant.name:<34} takes more memory than there is", flush=True)
                    rows.append(row)
                    continue
                slowest = max(slowest, time.monotonic() - since)
                row |= {"images/s": round(speed, 2), "of matmul": round(speed * operations / matmul, 4)}
                row |= {"of bandwidth": round(speed * moved / bandwidth, 4)}
                row |= {"GB": round(memory / GIGA, 2)} if gpu else {}
                row |= {"of study": round(speed / STUDY[architecture], 2)} if architecture in STUDY else {}
                rows.append(row)
                shown = ", ".join(f"{row[key]:.1%} {key}" for key in ("of matmul", "of bandwidth"))
                shown += f", {row['GB']:.1f} GB" if gpu else ""
                shown += f", {row['of study']:.2g}x the study" if "of study" in row else ""
                print(f"  {variant.name:<34} {speed:8.1f} images/s, {shown}", flush=True)
    write_csv(options.out, rows)
    print(f"\n{options.out}: {len(rows)} rows in {(time.monotonic() - begin) / 60:.1f} minutes")
    return 0


def measure(
    architecture: str, variant: Variant, batch: int, loader: DataLoader, options: Options, device: torch.device
) -> tuple[float, int]:
    """Images a second, and the peak of the GPU's memory in bytes."""
    torch.manual_seed(0)
    encoder = MaskedDense if variant.dense else PackedEncoder
    model = FCMAE(timm.create_model(architecture, in_chans=1, num_classes=0), encoder=encoder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    if variant.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if variant.compiled:
        torch._dynamo.reset()
        model.compile(dynamic=False)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(variant.precision, speed=Speed(tf32=True, autotune=True))
    model, optimizer = accelerator.prepare(model, optimizer)
    fixed, visible = example(options, batch, device)
    images = endless(loader) if variant.loader else itertools.repeat(fixed)

    def step() -> None:
        loss = model(next(images).to(device, non_blocking=True), visible)["loss"]
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UP):
        step()
    seconds = timed(step, options.steps, device)
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return batch * options.steps / seconds, memory


class Moved(TorchDispatchMode):
    """Counts the numbers that operations read and write, each once an operation; views move nothing."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if not function.is_view:
            tensors = [each for each in tree_leaves((args, out)) if isinstance(each, Tensor)]
            self.numbers += sum(each.numel() for each in tensors)
        return out


def demands_an_image(architecture: str, options: Options, width: int) -> tuple[int, int]:
    """Of one image's forward and backward pass: additions and multiplications, and bytes moved, `width` a number."""
    model = FCMAE(timm.create_model(architecture, in_chans=1, num_classes=0))
    with FlopCounterMode(display=False) as counter, Moved() as moved:
        model(*example(options, 1, torch.device("cpu")))["loss"].backward()
    return counter.get_total_flops(), moved.numbers * width


def example(options: Options, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images of noise, and which of their patches are visible."""
    patches = (options.size // PATCH) ** 2
    visible = [random_visible(patches, options.mask_ratio, 0, 0, sample) for sample in range(batch)]
    images = torch.randn(batch, 1, options.size, options.size, device=device)
    return images, torch.from_numpy(np.stack(visible)).to(device)


def timed(step: Callable[[], object], steps: int, device: torch.device) -> float:
    """Seconds of `steps` steps, waiting for the device at both ends."""
    synchronise = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronise()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    synchronise()
    return time.perf_counter() - start


def matmul_rate(device: torch.device) -> float:
    """Operations a second in products of large square matrices, in bf16 on a GPU and float32 on a CPU."""
    side, kind = (8192, torch.bfloat16) if device.type == "cuda" else (1536, torch.float32)
    a, b = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    torch.mm(a, b)
    return 10 * 2 * side**3 / timed(lambda: torch.mm(a, b), 10, device)


def copy_rate(device: torch.device) -> float:
    """Bytes a second read and written in copying what no cache holds."""
    source = torch.zeros(1 << (30 if device.type == "cuda" else 27), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 10 * 2 * len(source) / timed(lambda: target.copy_(source), 10, device)


def suggested_batch(architecture: str, device: torch.device) -> int:
    """Crops of 640x640 px that fit easily: by the width of the network and the memory of the GPU."""
    if device.type == "cpu":
        return 2
    width = timm.create_model(architecture, num_classes=0).num_features
    gigabytes = torch.cuda.get_device_properties(device).total_memory / GIGA
    return max(8, 2 ** int(np.log2(gigabytes * 600 / width)))


def make_store(path: Path, micrographs: int) -> Path:
    """A store of noise, 1200x1920 px each."""
    draws = np.random.default_rng(0)
    with StoreWriter(path, (1.0, 99.0), patch_size=64, patches=1) as writer:
        for number in range(micrographs):
            pixels = draws.integers(0, 256, (1200, 1920), dtype=np.uint8)
            writer.append(StoredImage(f"{number}.tif", f"{number:064x}", 0, 0, pixels))
        writer.finish()
    return path


def make_loader(path: Path, options: Options, batch: int) -> DataLoader:
    store = open_store(path)
    crops = CropDataset(store, np.resize(np.arange(options.micrographs), 64 * batch), options.size, normalise=False)
    return DataLoader(
        crops,
        batch_sampler=EpochSampler(len(crops), batch),
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def endless(loader: DataLoader) -> Iterator[Tensor]:
    while True:
        for batch in loader:
            yield batch["image"]


if __name__ == "__main__":
    run_command(main)
