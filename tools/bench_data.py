"""Time what feeds training: crops from a store against whole files, detector crops, and a store of a million entries.

    python tools/bench_data.py [folder=DIR] [images=40]

Everything is made in a temporary folder (in `folder` when given) and removed. One process, one thread, warm cache.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import tifffile
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from sempre.config import read_options
from sempre.data.crops import generator, random_crop
from sempre.data.datasets import CropDataset
from sempre.data.detection_crops import DetectionCrops
from sempre.data.labelled import LabelledSet
from sempre.data.samplers import EpochSampler
from sempre.data.store import Store
from sempre.data.store_writer import StoredImage, StoreWriter
from sempre.errors import run_command


@dataclass
class Options:
    folder: str = ""  # where to put the temporary files; empty = the system's place
    images: int = 40  # micrographs of 1200x1920 px


def main() -> None:
    options = read_options(Options)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder or None) as folder:
        folder = Path(folder)
        store, files = make_store(folder, options.images)
        rows = range(options.images)
        in_store = seconds(lambda: [crop_of_store(store, row) for row in rows]) / options.images
        in_files = seconds(lambda: [crop_of_file(files[row], row) for row in rows]) / options.images
        print(f"640x640 crop of 1200x1920: store {1e3 * in_store:.2f} ms, TIFF {1e3 * in_files:.2f} ms, ", end="")
        print(f"{in_files / in_store:.0f}x")
        crops = CropDataset(store, rows)
        item = seconds(lambda: [crops[(0, row)] for row in rows]) / options.images
        print(f"the same flipped and normalised as a tensor: {1e3 * item:.2f} ms")

        labelled = make_labelled_set(folder / "labelled")
        for size, settings in [(256, {}), (256, {"scale_range": (0.7, 1.4), "rotation": 20.0}), (640, {})]:
            detection = DetectionCrops(labelled, range(len(labelled)), size, repeats=10, **settings)
            start, instances = time.perf_counter(), 0
            for sample in range(len(detection)):
                instances += len(detection[(0, sample)][1]["boxes"])
            item = (time.perf_counter() - start) / len(detection)
            print(
                f"detector crop of {size} px, {settings or 'cut'}, {instances / len(detection):.0f} instances: "
                f"{1e3 * item:.1f} ms"
            )

        million = make_million(folder)
        print(f"a million entries: open {seconds(lambda: Store(million)):.3f} s", end="")
        store = Store(million)
        print(f", index {seconds(lambda: store.entries):.2f} s, split {seconds(store.split):.2f} s", end="")
        sampler = EpochSampler(len(store), 256)
        print(f", first batch of an epoch {seconds(lambda: next(iter(sampler))):.3f} s")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def crop_of_store(store: Store, row: int) -> np.ndarray:
    return store.crop(row, *random_crop(1200, 1920, 640, generator(row)), 640, 640)


def crop_of_file(file: Path, row: int) -> np.ndarray:
    y, x = random_crop(1200, 1920, 640, generator(row))
    return tifffile.imread(file)[y : y + 640, x : x + 640]


def make_store(folder: Path, images: int) -> tuple[Store, list[Path]]:
    files = []
    with StoreWriter(folder / "store.h5") as writer:
        for number in range(images):
            pixels = generator(number).integers(0, 256, (1200, 1920), dtype=np.uint8)
            files.append(folder / f"{number}.tif")
            tifffile.imwrite(files[-1], pixels)
            writer.append(StoredImage(files[-1].name, hashlib.sha256(pixels).hexdigest(), 1, 1, pixels))
        writer.finish()
    return Store(folder / "store.h5"), files


def make_labelled_set(folder: Path) -> LabelledSet:
    """Four fields of 1200x1920 px with about 500 blobs each."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    y, x = np.mgrid[-20:21, -20:21]
    disc = y**2 + x**2 < 400
    for number in range(4):
        draws = generator(number)
        labels = np.zeros((1200, 1920), dtype=np.uint16)
        for instance in range(1, 501):
            top, left = random_crop(1200, 1920, 41, draws)
            labels[top : top + 41, left : left + 41][disc] = instance
        pixels = gaussian_filter((labels > 0) * 150.0, 2) + draws.integers(0, 80, labels.shape)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
    return LabelledSet(folder)


def make_million(folder: Path) -> Path:
    """A store whose index names one micrograph a million times, under as many hashes."""
    path, count = folder / "million.h5", 1_000_000
    with StoreWriter(path) as writer:
        writer.append(StoredImage("a.png", "0" * 64, 1, 1, np.eye(700, dtype=np.uint8)))
        writer.finish()
    with h5py.File(path, "r+") as file:
        for column in file["index"].values():
            values = np.resize(column[:], count)
            column.resize(count, axis=0)
            column[:] = values
        file["index/sha256"][:] = [hashlib.sha256(str(row).encode()).hexdigest().encode() for row in range(count)]
    return path


if __name__ == "__main__":
    run_command(main)
