"""How fast micrographs are embedded, against a plain loop over timm's network, in one run.

    python tools/bench_extract.py                                   # on fields that it renders, all of one shape
    python tools/bench_extract.py images=FOLDER backbone=random:vit_small_patch16_224 size=224

The plain loop opens each file with Pillow, puts timm's own transform and network over it and keeps the features in
memory. sempre reads every format, normalises by percentiles, writes its file after every batch and can be resumed; it
batches images that share a shape. Both are given the same files and sizes, and are timed in turn, several times, each
in a process of its own.
"""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, set_start_method
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2
from tqdm import tqdm

from sempre.config import read_options
from sempre.data.sources import open_source
from sempre.errors import run_command
from sempre.frozen.encoder import open_encoder
from sempre.frozen.extract import ExtractionOptions, extract, input_shape
from sempre.images import find_micrographs
from sempre.models.timm_networks import TimmNetwork
from sempre.processes import without_interrupts
from sempre.ranges import Count, CountOrZero
from sempre.synthetic import render_field


@dataclass(kw_only=True)
class Options(ExtractionOptions):
    backbone: str = "random:convnextv2_atto"  # as in evaluate/
    images: str = ""  # folder of micrographs; empty: rendered fields
    count: Count = 64  # number of fields to render
    size: CountOrZero = 224  # resize the longer side to this, px
    repeats: Count = 3  # timed runs of each; the median is reported


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    with tempfile.TemporaryDirectory() as scratch:
        if not options.images:
            options.images = f"{scratch}/images"
            render(Path(options.images), options.count)
        options.embeddings = f"{scratch}/embeddings"
        shapes = Counter(shape_of(file, options) for file in find_micrographs(options.images))
        seconds = {
            name: [in_own_process(work, options) for _ in range(options.repeats)]
            for name, work in (("plain", plain_loop), ("sempre", with_sempre))
        }
    rates = {name: shapes.total() / np.median(values) for name, values in seconds.items()}
    print(
        f"{options.backbone}, {shapes.total()} images of {len(shapes)} shapes (the most frequent "
        f"{shapes.most_common(1)[0][0]} px, {shapes.most_common(1)[0][1]} images), {torch.get_num_threads()} threads"
    )
    for name, rate in rates.items():
        print(f"{name:8} {rate:8.1f} images a second")
    print(f"sempre / plain {rates['sempre'] / rates['plain']:.2f}x")
    return 0


def render(folder: Path, count: int) -> None:
    folder.mkdir()
    for seed in tqdm(range(count), desc="rendering", unit="field"):
        Image.fromarray(render_field(seed, (512, 512)).pixels).save(folder / f"{seed}.png")


def shape_of(file: Path, options: Options) -> tuple[int, int]:
    with Image.open(file) as image:
        return input_shape(file.name, (image.height, image.width), None, options)


def in_own_process(work: Callable[[Options], float], options: Options) -> float:
    """Seconds that `work` took, without starting the process and making the network."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with without_interrupts():
            measured = pool.submit(work, options)
        return measured.result()


def with_sempre(options: Options) -> float:
    set_start_method("fork", force=True)  # of loader workers, as in a program that was not itself spawned
    encoder = open_encoder(options.backbone, layer=options.layer)
    shutil.rmtree(options.embeddings, ignore_errors=True)
    start = time.perf_counter()
    extract(open_source(options.images), encoder, options).close()
    return time.perf_counter() - start


@torch.inference_mode()
def plain_loop(options: Options) -> float:
    """What one would write: timm's network, one image after the other."""
    encoder = open_encoder(options.backbone, layer=options.layer)
    network = cast(TimmNetwork, encoder.network).to(memory_format=torch.contiguous_format)
    files = find_micrographs(options.images)
    start = time.perf_counter()
    mode = "RGB" if len(encoder.mean) == 3 else "L"
    features = []
    for file in tqdm(files, desc="plain loop", unit="image"):
        height, width = (-(-side // encoder.cell) * encoder.cell for side in shape_of(file, options))
        transform = v2.Compose(
            [
                v2.PILToTensor(),
                v2.Resize((height, width), antialias=True),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(encoder.mean, encoder.std),
            ]
        )
        with Image.open(file) as image:
            features.append(network.forward_features(transform(image.convert(mode))[None])[0].numpy())
    return time.perf_counter() - start


if __name__ == "__main__":
    run_command(main)
