"""Fine-tune Mask R-CNN on labelled micrographs, then score it on the held-out ones.

    python finetune/mask_rcnn.py configs/mask_rcnn/gpu.yaml data=my_set backbone=runs/fcmae/backbone name=my_particles

`data` holds `images/` and `labels/` (or `segmaps/`): label images of the same stem, 0 is background; or a COCO
`annotations.json`. `runs/<name>/repeat-0/` then holds the model, its log, and the predictions on the held-out images;
`runs/<name>/summary.json` their scores. Export it with `python tools/export_onnx.py run=runs/<name>/repeat-0`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from sempre.config import part_of, read_options
from sempre.data.detection_crops import DetectionCrops, collate
from sempre.data.folds import NOBODY, fitted_and_choosing
from sempre.data.labelled import LabelledSet
from sempre.data.samplers import epoch_sampler
from sempre.errors import run_command
from sempre.files import write_json
from sempre.models.initial_weights import (
    check_start,
    initial_percentiles,
    initial_weights_name,
    load_initial_weights,
)
from sempre.models.mask_rcnn import DetectionLoss, DetectorOptions, build_mask_rcnn, describe_detector, save_detector
from sempre.ranges import (
    Count,
    CountOrZero,
    Magnification,
    Minutes,
    Percentiles,
    Positive,
    PositiveOrZero,
    PositiveShare,
    Precision,
    Range,
    RunName,
    Seed,
    Share,
    Span,
)
from sempre.training.accelerator import make_accelerator
from sempre.training.best_epoch import train_to_best
from sempre.training.detector_scoring import THRESHOLDS, best_score_threshold, score_detector, threshold_scores
from sempre.training.fine_tuning_run import crop_loader, start_fine_tuning
from sempre.training.loop import LoopOptions, Trainer
from sempre.training.optimisation import cosine_with_warmup, parameter_groups
from sempre.training.preemption import EXIT_PREEMPTED, StopSignal
from sempre.training.scoring import SharedWork


@dataclass
class Options:
    data: str = "???"  # folder of labelled micrographs
    name: RunName = "mask_rcnn"  # the run goes to runs/<name>
    backbone: str = "none"  # backbone folder, .pth of the original ConvNeXtV2 code, none (random) or imagenet
    imagenet_weights: str = ""  # file of ImageNet weights; empty: an installed package, then timm's hub
    architecture: str = "convnextv2_pico"  # any timm network with strides 4, 8, 16, 32
    split_file: str = ""  # JSON of "train", "validation", "test" (optional) stems; empty: seeded split
    validation_fraction: Share = 0.2  # share of images that the seeded split holds out
    test_fraction: Share = 0.0  # share of images for the test; validation then chooses epoch and threshold
    split_seed: Seed = 0  # seed of the split; another one holds out other images
    components: bool = False  # make each connected piece a particle; for masks of 0 and 255
    groups: str = ""  # also score groups: magnification, folder, or a CSV file of rows name,group
    percentiles: Percentiles = field(default_factory=list)  # percentiles made black and white; []: as in pretraining
    label_count: CountOrZero = 0  # use only this many training micrographs; 0: all
    repeats: Count = 1  # number of trainings, with seeds seed, seed + 1, …
    seed: Seed = 0  # random seed of weights, crops and order
    epochs: CountOrZero = 400  # passes over the labelled images; each gives one crop a pass
    validate_every: CountOrZero = 10  # epochs between validations if there is a test split; 0: keep the last epoch
    batch: Count = 8  # crops in one step, summed over all processes
    accumulation: Count = 1  # split each process's batch into this many parts to save memory
    crop: Annotated[int, Range(32)] = 512  # side of the training crops, px
    scale: Magnification = 1.0  # resize micrographs by this factor; 0.5 takes a quarter of the time
    scale_range: Span = field(default_factory=lambda: [1.0, 1.0])  # range of a further random scale factor of each crop
    flip: bool = True  # mirror crops and rotate them by quarter turns at random
    rotation: Annotated[float, Range(0, 360)] = 0.0  # largest random rotation of a crop, degrees
    brightness: Share = 0.1  # largest random shift of grey values, which lie in 0 to 1
    contrast: Share = 0.2  # largest random change of contrast, as a share
    rate: PositiveOrZero = 4e-4  # highest learning rate of AdamW
    warmup: Share = 0.05  # share of the steps in which the learning rate rises
    weight_decay: PositiveOrZero = 0.05  # weight decay of AdamW, for matrices only
    layer_decay: PositiveShare = 0.9  # learning rate of each backbone layer relative to the one above it
    clip_gradient: Positive = 1.0  # largest gradient norm
    precision: Precision = "auto"  # number format of the computation
    workers: CountOrZero = 2  # data-loading processes
    timeout_minutes: Minutes = 30  # stop if a process keeps the others waiting this long, minutes
    score_threshold: Share = 0.0  # lowest score of a detection; 0: chosen on a tenth of the training set
    pyramid_channels: Count = 256  # width of the feature pyramid and mask head
    box_head_width: Count = 1024  # width of the box head
    mask_head_layers: Count = 4  # convolutions in the mask head
    proposals: Count = 1000  # proposals of each image that reach the heads
    proposals_sampled: Count = 256  # proposals of each image sampled for the loss
    positive_share: PositiveShare = 0.25  # largest share of particles among the sampled proposals
    detections: Count = 500  # largest number of particles in an image


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    check_start(options.architecture, options.backbone, options.imagenet_weights)
    run = start_fine_tuning(options, initial_percentiles(options.backbone, options.percentiles), options.components)
    labelled, splits = run.labelled, run.splits

    # Every repeat has its own seed for the random weights, the crops and their order, and for which labels are used.
    for seed, folder in run.unfinished_repeats():
        fitted, choosing = fitted_and_choosing(splits, options.label_count, seed, options.score_threshold > 0)
        run.check_fitted(fitted)
        detector = train(options, seed, labelled, fitted, folder, run.stop, splits.choosing, run.accelerator)
        if detector is None:
            return EXIT_PREEMPTED
        share = run.sharing(folder)
        threshold = options.score_threshold
        if not threshold:
            threshold = best_score_threshold(detector, options.scale, labelled, choosing, share)
        began = initial_weights_name(options.architecture, options.backbone, options.imagenet_weights)
        details = describe_detector(part_of(options, DetectorOptions), options.scale, threshold, labelled)
        details["micrograph"] = str(labelled.images[splits.held_out[0]].resolve())  # that the export is tried on
        if run.accelerator.is_main_process:
            save_detector(folder, detector, {**details, "initial_weights": began})
        scores = score_detector(detector, options.scale, threshold, labelled, splits.held_out, folder, share)
        if run.accelerator.is_main_process:
            write_json(folder / "summary.json", {"initial_weights": began, **scores})
    run.finish()
    return 0


def train(
    options: Options,
    seed: int,
    labelled: LabelledSet,
    fitted: np.ndarray,
    folder: Path,
    stop: StopSignal | None = None,
    validating: np.ndarray = NOBODY,
    of_run: Accelerator | None = None,
) -> nn.Module | None:
    """Train one detector; None when a signal stopped it early.

    It is that of the last epoch, or of the validated one of highest AJI+ where there are micrographs to validate on.

    Args:
        of_run: the run's Accelerator, of which there is one a run.
    """
    accelerator = of_run or make_accelerator(options.precision)
    smallest, largest = (options.scale * factor for factor in options.scale_range)
    crops = DetectionCrops(
        labelled,
        fitted,
        options.crop,
        seed,
        flip=options.flip,
        scale_range=(smallest, largest),
        rotation=options.rotation,
        brightness=options.brightness,
        contrast=options.contrast,
    )
    loader = crop_loader(crops, options.batch, seed, options.workers, accelerator, collate)
    # Channels last, the layout that convolutions and normalisations are quickest in, on CPUs and with tensor cores.
    detector = build_detector(options, seed).to(memory_format=torch.channels_last)
    groups = parameter_groups(
        detector, detector.get_submodule("backbone.body"), options.weight_decay, options.layer_decay
    )
    steps = options.epochs * epoch_sampler(loader).batches()
    share = SharedWork(accelerator, stop, shown=False)

    def validated(shown: Iterable[int]) -> float:
        thresholds = [options.score_threshold] if options.score_threshold else THRESHOLDS
        return float(threshold_scores(detector, options.scale, labelled, shown, thresholds, share).max())

    trainer = Trainer(
        DetectionLoss(detector),
        torch.optim.AdamW(groups, lr=options.rate),
        loader,
        lambda step: cosine_with_warmup(step, steps, int(options.warmup * steps), options.rate),
        LoopOptions(
            epochs=options.epochs,
            seed=seed,
            accumulation=options.accumulation,
            clip_gradient=options.clip_gradient,
            validate_every=options.validate_every,
        ),
        accelerator=accelerator,
        folder=folder,
        stop=stop,
    )
    finished = train_to_best(trainer, kept=detector, aji_plus=validated, validating=validating)
    return detector if finished else None


def build_detector(options: Options, seed: int) -> nn.Module:
    """The detector with the backbone's weights that `options.backbone` names; all else is random under the seed."""
    torch.manual_seed(seed)
    detector = build_mask_rcnn(part_of(options, DetectorOptions))
    load_initial_weights(detector.backbone.body, options.architecture, options.backbone, options.imagenet_weights)
    return detector


if __name__ == "__main__":
    run_command(main)
