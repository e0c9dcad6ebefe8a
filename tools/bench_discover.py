"""How much memory and time a discovery of many images takes: pooling, clusters and map of 10,000.

    python tools/bench_discover.py                     # micrographs that it makes, 96 px, embedded by ConvNeXtV2 Atto
    python tools/bench_discover.py count=50000 map=pca methods=[kmeans]

Runs evaluate/discover.py as anyone would, in a process of its own, and prints its peak memory: that of the whole run,
embedding included. The largest of its loader processes is counted beside it.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from sempre.config import read_options
from sempre.errors import InputError, run_command
from sempre.frozen.clusters import Methods
from sempre.frozen.pooling import MapMethod
from sempre.ranges import Count

ROOT = Path(__file__).parents[1]
SIDE = 96  # px


@dataclass
class Options:
    count: Count = 10000  # number of images
    backbone: str = "random:convnextv2_atto"  # as in evaluate/
    map: MapMethod = "auto"  # plane of the map
    methods: Methods = field(default_factory=lambda: ["kmeans", "agglomerative"])  # clustering methods


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    with tempfile.TemporaryDirectory() as scratch:
        make_images(Path(scratch) / "images", options.count)
        command = [
            sys.executable,
            str(ROOT / "evaluate/discover.py"),
            "images=images",
            "layer=1",
            "batch=64",
            *(f"{name}={getattr(options, name)}" for name in ("backbone", "map")),
            f"methods=[{','.join(options.methods)}]",
        ]
        start = time.monotonic()
        code = subprocess.run(command, cwd=scratch, env=os.environ, check=False).returncode
        seconds = time.monotonic() - start
    if code:
        raise InputError(f"evaluate/discover.py ended with code {code}: see above")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{options.count} images: {seconds:.0f} s, peak {peak:.2f} GB")
    return 0


def make_images(folder: Path, count: int) -> None:
    """Images of coarse and fine textures, so that there is something to tell apart."""
    folder.mkdir()
    for number in tqdm(range(count), desc="making images", unit="image"):
        random = np.random.default_rng(number)
        grain = 2 ** random.integers(0, 5)
        cells = random.integers(0, 255, (SIDE // grain, SIDE // grain), dtype=np.uint8)
        Image.fromarray(cells.repeat(grain, 0).repeat(grain, 1)).save(folder / f"{number:06}.png", compress_level=1)


if __name__ == "__main__":
    run_command(main)
