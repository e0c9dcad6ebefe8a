"""Time the crops that train a detector: cutting, scaling and rotating image and instances.

    python tools/bench_data.py [folder=DIR]

Everything is made in a temporary folder (in `folder` when given) and removed. One process, one thread, warm cache.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from sempre.config import read_options
from sempre.data.detection_crops import DetectionCrops
from sempre.data.labelled import LabelledSet
from sempre.data.samplers import generator, random_crop
from sempre.errors import run_command


@dataclass
class Options:
    folder: str = ""  # folder for temporary files; empty: the system's


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder or None) as folder:
        folder = Path(folder)
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
    return 0


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


if __name__ == "__main__":
    run_command(main)
