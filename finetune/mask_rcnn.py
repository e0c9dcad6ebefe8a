"""Fine-tune Mask R-CNN on labelled micrographs, then score it on the held-out ones.

    python finetune/mask_rcnn.py configs/mask_rcnn/gpu.yaml data=my_set backbone=runs/fcmae/backbone name=my_particles

`data` holds `images/` and `labels/` (or `segmaps/`): label images of the same stem, 0 is background; or a COCO
`annotations.json`. `runs/<name>/repeat-0/` then holds the model, its log, and the predictions on the held-out images;
`runs/<name>/summary.json` their scores. Export it with `python tools/export_onnx.py run=runs/<name>/repeat-0`.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sempre.config import read_options
from sempre.data.feeding.detection_crops import DetectionCrops, collate
from sempre.data.feeding.samplers import EpochSampler
from sempre.data.labels.folds import NOBODY, fitted_and_choosing
from sempre.data.labels.groups import read_groups
from sempre.data.labels.labelled import LabelledSet
from sempre.data.labels.run_summary import summarise_run
from sempre.errors import InputError, run_command
from sempre.files import write_json
from sempre.images import percentile_range
from sempre.images.normalise import MEAN, STD
from sempre.metrics import with_spread
from sempre.models.parameter_groups import parameter_groups
from sempre.models.segmenters.detector_files import save_detector
from sempre.models.segmenters.mask_rcnn import DetectorOptions, build_mask_rcnn
from sempre.models.segmenters.segmentation import THRESHOLDS, best_score_threshold, score_detector, threshold_scores
from sempre.models.weights.checkpoints import (
    load_backbone_weights,
    load_timm_weights,
    percentiles_of,
    timm_weights_name,
)
from sempre.models.weights.weight_files import load_weights, save_weights
from sempre.training.accelerator import make_accelerator
from sempre.training.loop import fit
from sempre.training.runs.logging import RunLog
from sempre.training.runs.preemption import EXIT_PREEMPTED, StopSignal
from sempre.training.runs.run_folder import lock_run, open_run
from sempre.training.steps.schedule import cosine_with_warmup


@dataclass
class Options:
    data: str = "???"  # folder of labelled micrographs
    name: str = "mask_rcnn"  # the run goes to runs/<name>
    backbone: str = "none"  # backbone folder, .pth of the original ConvNeXtV2 code, none (random), imagenet (timm's)
    imagenet_weights: str = ""  # local file with timm's weights, for backbone=imagenet without a network
    architecture: str = "convnextv2_pico"  # any timm network with strides 4, 8, 16, 32
    split_file: str = ""  # JSON with "train", "validation" and perhaps "test" stems; otherwise a seeded split
    validation_fraction: float = 0.2  # share of the images held out by the seeded split
    test_fraction: float = 0.0  # share that is scored then; the validation share chooses epoch and threshold
    split_seed: int = 0  # another seed, another split
    groups: str = ""  # scored apart too: magnification, folder, or a CSV file of rows name,group
    percentiles: list[float] = field(default_factory=list)  # that become black and white; none: as in pretraining
    label_count: int = 0  # train on so many of the training micrographs; 0 on all
    repeats: int = 1  # trainings with seeds seed, seed + 1, …
    seed: int = 0  # of weights, crops and order
    epochs: int = 400  # passes over the labelled images, each giving one crop a pass
    validate_every: int = 10  # epochs, where a test side is scored: validation keeps the best; 0 keeps the last
    batch: int = 8  # crops a step, over all processes
    accumulation: int = 1  # parts that a process's share of the batch is computed in; more parts take less memory
    crop: int = 512  # side of the training crops, px
    scale: float = 1.0  # the detector sees micrographs at this many times their size; 0.5 takes a quarter of the time
    scale_range: list[float] = field(default_factory=lambda: [1.0, 1.0])  # a further factor, drawn for each crop
    flip: bool = True  # mirror crops and turn them by quarter turns
    rotation: float = 0.0  # turn crops freely by up to this many degrees
    brightness: float = 0.1  # grey values (0 to 1) are shifted by up to this
    contrast: float = 0.2  # and spread by up to this share
    rate: float = 4e-4  # peak learning rate of AdamW
    warmup: float = 0.05  # share of the steps that warm up
    weight_decay: float = 0.05  # of AdamW, on matrices only
    layer_decay: float = 0.9  # each backbone layer learns at this times the rate of the one above
    clip_gradient: float = 1.0  # largest gradient norm
    precision: str = "auto"  # auto, bf16 or float32
    workers: int = 2  # loader processes
    score_threshold: float = 0.0  # detections below are dropped; 0 chooses it on a tenth of the training micrographs
    pyramid_channels: int = 256  # width of the feature pyramid and mask head
    box_head_width: int = 1024  # width of the box head
    mask_head_layers: int = 4  # convolutions in the mask head
    proposals: int = 1000  # proposals an image that reach the heads
    proposals_sampled: int = 256  # of them, sampled for the loss
    positive_share: float = 0.25  # of those, at most this share shows particles; the mask head learns from no others
    detections: int = 500  # most particles an image


class DetectionLoss(nn.Module):
    """The detector's losses and their sum."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        losses = self.detector(images, targets)
        return {"loss": sum(losses.values()), **losses}


def main() -> int | None:
    options = read_options(Options)
    labelled = LabelledSet(options.data, percentiles=percentiles(options))
    sides = labelled.sides(
        options.validation_fraction, options.split_seed, options.split_file or None, options.test_fraction
    )
    groups = read_groups(options.groups, labelled.paths)
    if not len(sides.held_out):
        raise InputError(f"no micrograph of {options.data} is held out: raise validation_fraction or add images")
    stop = StopSignal()
    accelerator = make_accelerator(options.precision)
    with accelerator.main_process_first():
        folder = open_run(Path("runs") / options.name, options, may_change=("accumulation", "groups", "workers"))
        if accelerator.is_main_process:
            lock_run(folder)

    # Every repeat has its own seed for the random weights, the crops and their order, and for which labels are used.
    repeats = []
    for repeat in range(options.repeats):
        seed = options.seed + repeat
        repeat_folder = folder / f"repeat-{repeat}"
        summary = repeat_folder / "summary.json"
        if not summary.exists():
            fitted, choosing = fitted_and_choosing(sides, options.label_count, seed, options.score_threshold > 0)
            detector = train(options, seed, labelled, fitted, repeat_folder, stop, sides.choosing)
            if detector is None:
                return EXIT_PREEMPTED
            if accelerator.is_main_process:
                threshold = options.score_threshold
                if not threshold:
                    threshold = best_score_threshold(detector, options.scale, labelled, choosing)
                save(detector, options, threshold, labelled, sides.held_out, repeat_folder)
                scores = score_detector(detector, options.scale, threshold, labelled, sides.held_out, repeat_folder)
                write_json(summary, {"initial_weights": weights_source(options), **scores})
        accelerator.wait_for_everyone()
        repeats.append(json.loads(summary.read_text()))

    if accelerator.is_main_process:
        whole = summarise_run(repeats, groups)
        write_json(folder / "summary.json", whole)
        print(f"AJI+ {with_spread(whole['scores']['aji_plus'])} on {len(sides.held_out)} micrographs")
    return None


def percentiles(options: Options) -> tuple[float, float]:
    """Those given, else those that the micrographs of `options.backbone` were normalised by."""
    return percentile_range(options.percentiles) if options.percentiles else percentiles_of(options.backbone)


def train(
    options: Options,
    seed: int,
    labelled: LabelledSet,
    fitted: np.ndarray,
    folder: Path,
    stop: StopSignal | None = None,
    validating: np.ndarray = NOBODY,
) -> nn.Module | None:
    """Train one detector; None when a signal stopped it early.

    It is that of the last epoch, or of the validated one of highest AJI+ where there are micrographs to validate on.
    """
    accelerator = make_accelerator(options.precision)
    ranks = accelerator.num_processes
    crops = DetectionCrops(
        labelled,
        fitted,
        options.crop,
        seed,
        flip=options.flip,
        scale_range=tuple(options.scale * factor for factor in options.scale_range),
        rotation=options.rotation,
        brightness=options.brightness,
        contrast=options.contrast,
    )
    loader = DataLoader(
        crops,
        batch_sampler=EpochSampler(len(crops), options.batch, seed, accelerator.process_index, ranks),
        num_workers=options.workers,
        collate_fn=collate,
        persistent_workers=options.workers > 0,
    )
    # Channels last, the layout that convolutions and normalisations are quickest in, on CPUs and with tensor cores.
    detector = build_detector(options, seed).to(memory_format=torch.channels_last)
    groups = parameter_groups(detector, detector.backbone.body, options.weight_decay, options.layer_decay)
    steps = options.epochs * loader.batch_sampler.batches()
    best = folder / "best.safetensors"

    def validate(model: DetectionLoss, log: RunLog, step: int) -> dict[str, float]:
        shown = validating if stop is None else stop.watch(validating)
        thresholds = [options.score_threshold] if options.score_threshold else THRESHOLDS
        score = float(threshold_scores(model.detector, options.scale, labelled, shown, thresholds).max())
        return {"loss": 1 - score, "aji_plus": score}

    choosing_epochs = options.validate_every > 0 and len(validating) > 0
    finished = fit(
        DetectionLoss(detector),
        torch.optim.AdamW(groups, lr=options.rate),
        loader,
        accelerator=accelerator,
        folder=folder,
        epochs=options.epochs,
        rate=lambda step: cosine_with_warmup(step, steps, int(options.warmup * steps), options.rate),
        seed=seed,
        accumulation=options.accumulation,
        validate=validate if choosing_epochs else None,
        validate_every=options.validate_every,
        export=(lambda model, loss: save_weights(model.detector, best)) if choosing_epochs else None,
        clip_gradient=options.clip_gradient,
        stop=stop,
    )
    if finished and choosing_epochs:
        load_weights(detector, best)
    return detector if finished else None


def save(
    detector: nn.Module,
    options: Options,
    threshold: float,
    labelled: LabelledSet,
    held_out: np.ndarray,
    folder: Path,
) -> None:
    """Write the model with what the export needs to know; it is tried there on the first held-out micrograph."""
    micrograph = labelled.images[held_out[0]].resolve()
    details = {
        "detector": asdict(detector_options(options)),
        "normalisation": {"percentiles": labelled.percentiles, "mean": MEAN, "std": STD},
        "class_names": ["particle"],
        "scale": options.scale,
        "score_threshold": threshold,
        "pixel_size_nm": labelled.common_pixel_size_nm(),
        "micrograph": str(micrograph),
        "initial_weights": weights_source(options),
    }
    save_detector(folder, detector, details)


def build_detector(options: Options, seed: int) -> nn.Module:
    """The detector with the backbone's weights that `options.backbone` names; all else is random under the seed."""
    torch.manual_seed(seed)
    detector = build_mask_rcnn(detector_options(options))
    body = detector.backbone.body
    if options.backbone == "imagenet":
        load_timm_weights(body, options.architecture, options.imagenet_weights or None)
    elif options.backbone != "none":
        load_backbone_weights(body, options.backbone, options.architecture)
    return detector


def weights_source(options: Options) -> str:
    """What the backbone's weights are, as it is recorded: of ImageNet's also which."""
    if options.backbone == "imagenet":
        return timm_weights_name(options.architecture, options.imagenet_weights or None)
    return options.backbone


def detector_options(options: Options) -> DetectorOptions:
    return DetectorOptions(**{field.name: getattr(options, field.name) for field in fields(DetectorOptions)})


if __name__ == "__main__":
    run_command(main)
