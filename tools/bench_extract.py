"""How fast micrographs are embedded, against a plain loop over timm's network, in one run.

    python tools/bench_extract.py                                   # on fields that it renders, all of one shape
    python tools/bench_extract.py images=FOLDER backbone=random:vit_small_patch16_224 size=224

The plain loop opens each file with Pillow, puts timm's own transform and network over it and keeps the features in
memory. sempre reads every format, normalises by percentiles, writes its file after every batch and can be resumed; it
batches images that share a shape. Both are given the same files and sizes; each is timed several times in turn.
"""

import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2
from tqdm import tqdm

from sempre.config import read_options
from sempre.data.sources import FolderSource, open_source
from sempre.embeddings.encoder import Encoder, open_encoder
from sempre.embeddings.extract import ExtractionOptions, extract, input_shape
from sempre.errors import run_command
from sempre.images.synthetic import render_field


@dataclass(kw_only=True)
class Options(ExtractionOptions):
    backbone: str = "random:convnextv2_atto"  # as in evaluate/
    images: str = ""  # folder of micrographs; fields are rendered when empty
    count: int = 64  # fields to render
    size: int = 224  # longer side that micrographs are resized to, px
    repeats: int = 3  # of each; the median counts


def main() -> None:
    options = read_options(Options)
    with tempfile.TemporaryDirectory() as scratch:
        if not options.images:
            options.images = f"{scratch}/images"
            render(Path(options.images), options.count)
        source = open_source(options.images)
        encoder = open_encoder(options.backbone, layer=options.layer)
        shapes = Counter(shape_of(file, options) for file in source.files)
        seconds = {"plain": [], "sempre": []}
        for repeat in range(options.repeats):
            start = time.perf_counter()
            plain_loop(source, encoder, options)
            seconds["plain"].append(time.perf_counter() - start)
            options.embeddings = f"{scratch}/{repeat}"
            start = time.perf_counter()
            extract(open_source(options.images), encoder, options).close()
            seconds["sempre"].append(time.perf_counter() - start)
    rates = {name: len(source) / np.median(values) for name, values in seconds.items()}
    print(
        f"{encoder.architecture}, {len(source)} images of {len(shapes)} shapes (the most frequent "
        f"{shapes.most_common(1)[0][0]} px, {shapes.most_common(1)[0][1]} images), {torch.get_num_threads()} threads"
    )
    for name, rate in rates.items():
        print(f"{name:8} {rate:8.1f} images a second")
    print(f"sempre / plain {rates['sempre'] / rates['plain']:.2f}x")


def render(folder: Path, count: int) -> None:
    folder.mkdir()
    for seed in tqdm(range(count), desc="rendering", unit="field"):
        Image.fromarray(render_field(seed, (512, 512)).pixels).save(folder / f"{seed}.png")


def shape_of(file: Path, options: Options) -> tuple[int, int]:
    with Image.open(file) as image:
        return input_shape(file.name, (image.height, image.width), None, options)


@torch.inference_mode()
def plain_loop(source: FolderSource, encoder: Encoder, options: Options) -> list[np.ndarray]:
    """What one would write: timm's network, one image after the other."""
    mode = "RGB" if len(encoder.mean) == 3 else "L"
    network = encoder.network.to(memory_format=torch.contiguous_format)
    features = []
    for file in tqdm(source.files, desc="plain loop", unit="image"):
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
    encoder.network.to(memory_format=torch.channels_last)
    return features


if __name__ == "__main__":
    run_command(main)
