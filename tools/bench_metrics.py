"""How long the scores take: 500 true against 500 predicted instances at 1920x1200 px.

python tools/bench_metrics.py
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sempre.config import read_options
from sempre.errors import run_command
from sempre.metrics import aji_plus, score_sample
from sempre.metrics.overlap import label_overlap
from sempre.ranges import Count, Seed


@dataclass
class Options:
    instances: Count = 500  # number of true, and of predicted instances
    height: Count = 1200  # height of the image, px
    width: Count = 1920  # width of the image, px
    repeats: Count = 7  # timed runs; the median is printed
    seed: Seed = 0  # random seed of the discs


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    true = discs(options, seed=options.seed)
    predicted = discs(options, seed=options.seed, shift=4.0)
    rows = {
        "AJI+": lambda: aji_plus(true, predicted),
        "AJI+, AJI, PQ, counts": lambda: score_sample(label_overlap(true, predicted)),
        "one full-image mask comparison a pair (what AJI+ avoids), 1 of the true instances": lambda: [
            ((true == 1) & (predicted == other)).sum() for other in range(1, options.instances + 1)
        ],
    }
    print(f"{len(np.unique(true)) - 1} against {len(np.unique(predicted)) - 1} instances, {true.shape} px")
    for name, run in rows.items():
        print(f"{median_seconds(run, options.repeats if 'one full' not in name else 1):8.4f} s  {name}")
    return 0


def discs(options: Options, seed: int, shift: float = 0.0) -> np.ndarray:
    """A label image of discs, moved by up to `shift` px; later ones lie on top."""
    draws = np.random.default_rng(seed)
    labels = np.zeros((options.height, options.width), np.int32)
    centres = draws.uniform(0, labels.shape, (options.instances, 2))
    radii = draws.uniform(10, 40, options.instances)
    centres += shift * draws.uniform(-1, 1, centres.shape)
    rows, columns = np.ogrid[: options.height, : options.width]
    for label, ((y, x), radius) in enumerate(zip(centres, radii, strict=True), start=1):
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = label
    return labels


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


if __name__ == "__main__":
    run_command(main)
