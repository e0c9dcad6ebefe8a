"""Score the classical baseline on a labelled set: Otsu's threshold and a distance-transform watershed, no training.

    python evaluate/watershed.py data=my_set name=watershed

Takes the same split as finetune/mask_rcnn.py and writes the same `predictions/` and `summary.json`. Several processes
(`accelerate launch`) share the micrographs.
"""

from dataclasses import dataclass, field
from pathlib import Path

from sempre.config import read_options
from sempre.data.folds import divide
from sempre.data.groups import read_groups
from sempre.data.labelled import LabelledSet
from sempre.errors import run_command
from sempre.images import percentile_range
from sempre.ranges import Count, CountOrZero, Percentiles, PositiveOrZero, RunName, Seed, Share
from sempre.segmentation.watershed import otsu_watershed
from sempre.training.accelerator import accelerator_of_launch
from sempre.training.scoring import Prediction, score_untrained


@dataclass
class Options:
    data: str = "???"  # folder of labelled micrographs
    name: RunName = "watershed"  # the result goes to runs/<name>
    split_file: str = ""  # JSON with "train", "validation" and perhaps "test" stems; otherwise a seeded split
    validation_fraction: Share = 0.2  # share of the images held out by the seeded split
    test_fraction: Share = 0.0  # share that is held out then, as in fine-tuning with the same one
    split_seed: Seed = 0  # another seed, another split
    components: bool = False  # each piece of an id's pixels is a particle, as in masks of 0 and 255
    groups: str = ""  # scored apart too: magnification, folder, or a CSV file of rows name,group
    percentiles: Percentiles = field(default_factory=lambda: [1.0, 99.0])  # grey values that become black and white
    smoothing: PositiveOrZero = 1.0  # deviation of the Gaussian before the threshold, px
    distance: Count = 7  # smallest distance between two particles' centres, px
    smallest: CountOrZero = 30  # instances of fewer px are dropped


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    labelled = LabelledSet(
        options.data, percentiles=percentile_range(options.percentiles), components=options.components
    )
    accelerator = accelerator_of_launch()
    groups = read_groups(options.groups, labelled.paths)
    held_out = divide(labelled, options).held_out
    summary = score_untrained(
        labelled,
        held_out,
        lambda pixels, _: Prediction(otsu_watershed(pixels, options.smoothing, options.distance, options.smallest)),
        Path("runs") / options.name,
        groups,
        accelerator,
    )
    if accelerator is None or accelerator.is_main_process:
        print(f"AJI+ {summary['aji_plus']:.3f} on {len(held_out)} micrographs")
    return 0


if __name__ == "__main__":
    run_command(main)
