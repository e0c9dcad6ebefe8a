"""Time what feeds pretraining: crops from a store against a folder of TIFFs, and the start of an epoch of a million.

    python tools/bench_loader.py [folder=DIR] [images=100] [workers=2]

Both sides are torch DataLoaders over the same 1920x1200 micrographs, with the same number of workers (and with none),
one thread each, warm cache. The folder holds 8-bit grey TIFFs without compression and is read as tutorials do:
torchvision's ImageFolder (which opens files as RGB), RandomCrop, RandomHorizontalFlip, ToTensor, Grayscale. The store's
crops come as uint8, to be normalised on the device by `normalise_batch` (not timed), or normalised by the workers.
Sides take turns, and the ratio is the median over the rounds: other work on the machine then slows both.
Everything is made in a temporary folder (in `folder` when given) and removed.
"""

import hashlib
import multiprocessing
import re
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import tifffile
import torch
from torch.utils.data import DataLoader, default_collate
from torchvision import transforms
from torchvision.datasets import ImageFolder

from sempre.config import read_options
from sempre.data.crops import CropDataset
from sempre.data.samplers import EpochSampler, generator
from sempre.data.shards import open_store
from sempre.data.store import Store
from sempre.data.store_writer import StoredImage, StoreWriter
from sempre.errors import run_command
from sempre.processes import without_interrupts
from sempre.ranges import Count

CROP, HEIGHT, WIDTH = 640, 1200, 1920  # px
MILLION = 1_000_000


@dataclass
class Options:
    folder: str = ""  # folder for temporary files; empty: the system's
    images: Count = 100  # number of micrographs
    batch: Count = 64  # crops
    workers: Count = 2  # loader processes of the second comparison
    rounds: Count = 5  # rounds; each times every variant once


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder or None) as folder:
        folder = Path(folder)
        store = make_images(folder, options.images)
        for workers in dict.fromkeys((0, options.workers)):
            compare(folder, store, workers, options)
        for shards in (1, 16):
            show_start_of_epoch(make_million(folder / f"{shards}", shards), shards)
    return 0


def compare(folder: Path, store: Store, workers: int, options: Options) -> None:
    """Print crops a second of the three loaders, and how many times the folder's each of the store's is."""
    loaders = {
        "folder of TIFFs": (folder_loader(folder / "tiff", workers, options.batch), 4),
        "store, uint8": (store_loader(store, workers, options.batch, normalise=False), 40),
        "store, normalised by the worker": (store_loader(store, workers, options.batch, normalise=True), 10),
    }
    rates = {name: [] for name in loaders}
    for _ in range(options.rounds):
        for name, (loader, batches) in loaders.items():
            rates[name].append(crops_per_second(loader, batches) * options.batch)
    reference = rates["folder of TIFFs"]
    print(f"{workers} workers, {CROP}x{CROP} px crops of {WIDTH}x{HEIGHT} px")
    for name, found in rates.items():
        ratio = median(rate / other for rate, other in zip(found, reference, strict=True))
        print(f"  {name}: {median(found):.0f} crops a second, {ratio:.1f}x")


def crops_per_second(loader: Iterable, batches: int) -> float:
    """Batches a second once the workers are running."""
    source = iter(loader)
    next(source)
    start = time.perf_counter()
    for _ in range(batches):
        next(source)
    return batches / (time.perf_counter() - start)


def folder_loader(folder: Path, workers: int, batch: int) -> DataLoader:
    steps = [
        transforms.RandomCrop(CROP),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Grayscale(),
    ]
    images = ImageFolder(folder, transforms.Compose(steps))
    images.samples *= 100  # an epoch longer than the measurement
    return DataLoader(images, batch, shuffle=True, num_workers=workers)


def store_loader(store: Store, workers: int, batch: int, normalise: bool) -> DataLoader:
    rows = np.tile(np.arange(len(store)), 100)
    crops = CropDataset(store, rows, CROP, normalise=normalise)
    return DataLoader(
        crops, batch_sampler=EpochSampler(len(crops), batch), collate_fn=images_alone, num_workers=workers
    )


def images_alone(samples: list[dict]) -> torch.Tensor:
    """A batch `[B, 1, crop, crop]`, made where the main process finds it without another copy."""
    return default_collate([sample["image"] for sample in samples])


def make_images(folder: Path, images: int) -> Store:
    """The same noise as TIFFs, `folder/tiff/all/<n>.tif`, and as the store that is returned."""
    (folder / "tiff" / "all").mkdir(parents=True)
    with StoreWriter(folder / "store.h5") as writer:
        for number in range(images):
            pixels = generator(number).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
            file = folder / "tiff" / "all" / f"{number}.tif"
            tifffile.imwrite(file, pixels)
            writer.append(StoredImage(file.name, hashlib.sha256(pixels.tobytes()).hexdigest(), 1, 1, pixels))
        writer.finish()
    return Store(folder / "store.h5")


def make_million(folder: Path, shards: int) -> Path:
    """Shards whose index names one micrograph a million times in all, under as many hashes."""
    folder.mkdir()
    for shard, rows in enumerate(np.array_split(np.arange(MILLION), shards)):
        path = folder / f"{shard:02}.h5"
        with StoreWriter(path) as writer:
            writer.append(StoredImage("a.png", "0" * 64, 1, 1, np.eye(CROP, dtype=np.uint8)))
            writer.finish()
        with h5py.File(path, "r+") as file:
            for column in file["index"].values():
                values = np.resize(column[:], len(rows))
                column.resize(len(rows), axis=0)
                column[:] = values
            file["index/sha256"][:] = [hashlib.sha256(str(row).encode()).hexdigest().encode() for row in rows.tolist()]
    return folder


def show_start_of_epoch(folder: Path, shards: int) -> None:
    """Print what a fresh process needs until it has the first batch's keys."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        with without_interrupts():
            measured = pool.submit(start_epoch, folder)
        steps, processor, before, peak = measured.result()
    print(f"{MILLION} entries in {shards} files: first batch after {sum(steps.values()):.1f} s, ", end="")
    print(f"{processor:.1f} s of a processor (", end="")
    print(", ".join(f"{name} {seconds:.2f}" for name, seconds in steps.items()), end="")
    print(f"), peak memory {peak:.2f} GB, {before:.2f} GB of it for Python and torch")


def start_epoch(folder: Path) -> tuple[dict[str, float], float, float, float]:
    """In a process of its own: seconds of each step, those of its processor, peak memory in GB before and after."""
    before = peak_memory()
    steps, start, processor = {}, time.perf_counter(), time.process_time()

    def done(step: str) -> None:
        nonlocal start
        steps[step] = time.perf_counter() - start
        start = time.perf_counter()

    store = open_store(folder)
    done("opening")
    _ = store.entries
    done("index")
    training, _ = store.split()
    done("split")
    _ = store.fingerprint
    done("fingerprint")
    crops = CropDataset(store, training, CROP)
    next(iter(EpochSampler(len(crops), 256)))
    done("order")
    return steps, time.process_time() - processor, before, peak_memory()


def peak_memory() -> float:
    """Largest resident size so far in GB. (ru_maxrss would begin with that of the process which started this one.)"""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 / 1e9


if __name__ == "__main__":
    run_command(main)
