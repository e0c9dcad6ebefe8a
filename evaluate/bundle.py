"""Score a bundle on a labelled set, as it segments on the microscope's PC; no training.

    python evaluate/bundle.py data=my_set name=released                 # the model that comes with sempre
    python evaluate/bundle.py data=my_set model=my_bundle name=my_bundle

Takes the same split as finetune/dense.py and writes the same `predictions/` and `summary.json`. `validation_fraction=1`
scores every micrograph. Several processes (`accelerate launch`) share the micrographs.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sempre.config import read_options
from sempre.data.folds import divide
from sempre.data.groups import read_groups
from sempre.data.labelled import LabelledSet
from sempre.deploy.released import DEFAULT, find_bundle
from sempre.deploy.segmenter import Segmenter
from sempre.errors import run_command
from sempre.ranges import CountOrZero, RunName, Seed, Share
from sempre.training.accelerator import accelerator_of_launch
from sempre.training.scoring import Prediction, score_untrained


@dataclass
class Options:
    data: str = "???"  # folder of labelled micrographs
    model: str = DEFAULT  # bundle's folder, or a released model's name
    name: RunName = "bundle"  # the result goes to runs/<name>
    split_file: str = ""  # JSON of "train", "validation", "test" (optional) stems; empty: seeded split
    validation_fraction: Share = 0.2  # share of images that the seeded split holds out
    test_fraction: Share = 0.0  # share of images for the test; same split as in fine-tuning
    split_seed: Seed = 0  # seed of the split; another one holds out other images
    components: bool = False  # make each connected piece a particle; for masks of 0 and 255
    sample: str = ""  # regular expression; names with the same match stay in one split
    groups: str = ""  # also score groups: magnification, folder, or a CSV file of rows name,group
    threads: CountOrZero = 0  # threads of ONNX Runtime in each process; 0: all cores


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = max((os.cpu_count() or 1) // ranks, 1) if ranks > 1 else None  # those of this process
    segmenter = Segmenter(find_bundle(options.model), options.threads or cores)
    # Read by the bundle's own percentiles: cut at others first, what lies beyond them would be lost to it.
    labelled = LabelledSet(options.data, percentiles=segmenter.bundle.percentiles, components=options.components)
    accelerator = accelerator_of_launch()
    groups = read_groups(options.groups, labelled.paths)
    held_out = divide(labelled, options, options.sample).held_out
    summary = score_untrained(
        labelled,
        held_out,
        lambda pixels, index: predict(segmenter, pixels, labelled.pixel_size_nm(index)),
        Path("runs") / options.name,
        groups,
        accelerator,
    )
    if accelerator is None or accelerator.is_main_process:
        print(f"AJI+ {summary['aji_plus']:.3f} on {len(held_out)} micrographs")
    return 0


def predict(segmenter: Segmenter, pixels: np.ndarray, pixel_size_nm: float | None) -> Prediction:
    labels, detections = segmenter.find_and_list(pixels, pixel_size_nm)
    if detections is None:
        return Prediction(labels)
    masks = [(detection.y, detection.x, detection.mask) for detection in detections]
    return Prediction(labels, masks, np.array([detection.score for detection in detections]))


if __name__ == "__main__":
    run_command(main)
