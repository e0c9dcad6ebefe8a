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
    split_file: str = ""  # JSON of "train", "validation", "test" (optional) stems; empty: seeded split
    validation_fraction: Share = 0.2  # share of images that the seeded split holds out
    test_fraction: Share = 0.0  # share of images for the test; same split as in fine-tuning
    split_seed: Seed = 0  # seed of the split; another one holds out other images
    components: bool = False  # make each connected piece a particle; for masks of 0 and 255
    groups: str = ""  # also score groups: magnification, folder, or a CSV file of rows name,group
    percentiles: Percentiles = field(default_factory=lambda: [1.0, 99.0])  # percentiles made black and white
    smoothing: PositiveOrZero = 1.0  # standard deviation of the Gaussian before the threshold, px
    distance: Count = 7  # smallest distance between the centres of two particles, px
    smallest: CountOrZero = 30  # smallest area of an instance, px; smaller ones are dropped


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
