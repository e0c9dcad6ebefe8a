"""Fine-tune the dense segmenter on labelled micrographs, then score it on the held-out ones.

    python finetune/dense.py data=my_set name=my_particles
    python finetune/dense.py data=my_set start=particles name=my_particles              # go on from the released model
    python finetune/dense.py data=my_set backbone=runs/spark/backbone name=my_particles
    python finetune/dense.py data=my_set architecture=convnextv2_pico backbone=runs/fcmae/backbone name=my_particles

`data` holds `images/` and `labels/` (or `segmaps/`): label images of the same stem, 0 is background; or a COCO
`annotations.json`. The network predicts foreground, depth and boundary at half the resolution, and one watershed over
the whole micrograph makes instances of them. `runs/<name>/repeat-0/` then holds the model, its log, and the predictions
on the held-out images; `runs/<name>/summary.json` their scores. Export it with
`python tools/export_onnx.py run=runs/<name>/repeat-0`. The same command again goes on where the last stopped.
"""

from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
from accelerate import Accelerator

from sempre.config import part_of, read_options
from sempre.data.dense_crops import DenseCrops
from sempre.data.detection_crops import DetectionCrops
from sempre.data.folds import NOBODY, parts_of_training
from sempre.data.labelled import LabelledSet
from sempre.data.samplers import epoch_sampler
from sempre.errors import InputError, run_command
from sempre.files import write_json
from sempre.images import percentile_range
from sempre.models.backbones import architecture_of_backbone
from sempre.models.dense import (
    DenseOptions,
    DenseSegmenter,
    as_network,
    dense_losses,
    describe_dense,
    load_dense,
    read_settings,
    save_dense,
)
from sempre.models.initial_weights import (
    IMAGENET,
    check_start,
    initial_percentiles,
    initial_weights_name,
    load_initial_weights,
)
from sempre.ranges import (
    Count,
    CountOrZero,
    Degrees,
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
    ShareBelowOne,
    Shares,
    Span,
)
from sempre.segmentation.maps import DenseSettings
from sempre.training.accelerator import make_accelerator
from sempre.training.best_epoch import train_to_best
from sempre.training.dense_scoring import best_settings, mean_aji_plus, score_dense
from sempre.training.fine_tuning_run import crop_loader, start_fine_tuning
from sempre.training.loop import LoopOptions, Trainer
from sempre.training.optimisation import AveragedTraining, cosine_with_warmup, estimate_statistics, parameter_groups
from sempre.training.preemption import EXIT_PREEMPTED, StopSignal
from sempre.training.scoring import SharedWork

EMPTY_SCALES = 0.25, 1.5  # magnification of micrographs without a particle
IMAGENET_ARCHITECTURE = "tf_efficientnet_lite0"  # whose weights are a package (extra `imagenet`)
STATISTICS_BATCHES = 40  # that the averaged weights' batch statistics are estimated over


@dataclass
class Options:
    data: str = "???"  # folder of labelled micrographs
    name: RunName = "dense"  # the run goes to runs/<name>
    architecture: str = ""  # unet_small, unet_medium or timm's name; empty: that of start= or backbone=
    start: str = ""  # initial model: a released one's name (particles) or a run's repeat-<n> folder
    backbone: str = "none"  # backbone folder, .pth of the original ConvNeXtV2 code, none (random) or imagenet
    imagenet_weights: str = ""  # file of ImageNet weights; empty: an installed package, then timm's hub
    renders: str = ""  # rendered set of data/synthesize.py, all of which is added to the training
    render_share: Share = 0.35  # share of the crops that come from renders=
    further: list[str] = field(default_factory=list)  # further labelled sets; their training splits are added
    further_shares: Shares = field(default_factory=lambda: [0.1])  # share of crops: one for all or for each
    further_sample: str = ""  # regular expression; names with the same match stay in one split
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
    epochs: CountOrZero = 30  # number of epochs, each of crops_an_epoch= crops
    validate_every: CountOrZero = 5  # epochs between validations if there is a test split; 0: keep the last epoch
    crops_an_epoch: Count = 1000  # crops in one epoch, for any number of micrographs
    batch: Count = 8  # crops in one step, summed over all processes
    accumulation: Count = 1  # split each process's batch into this many parts to save memory
    crop: Annotated[int, Range(32)] = 256  # side of the training crops, px
    size_range: Span = field(default_factory=lambda: [10.0, 160.0])  # range of widths of one particle in a crop, px
    rotation: Degrees = 20.0  # largest rotation of a crop, degrees; quarter turns are added
    inverted: Share = 0.3  # share of the crops whose grey values are inverted
    annotated: Share = 0.3  # share of the crops that letters, scale bars and the like are burnt into
    rate: PositiveOrZero = 2e-3  # highest learning rate of AdamW
    warmup: Share = 0.02  # share of the steps in which the learning rate rises
    weight_decay: PositiveOrZero = 0.02  # weight decay of AdamW, for matrices only
    layer_decay: PositiveShare = 0.9  # learning rate of a timm backbone's layer relative to the one above it
    average: ShareBelowOne = 0.998  # decay per step of the moving average of weights that is kept
    clip_gradient: Positive = 2.0  # largest gradient norm
    precision: Precision = "auto"  # number format; auto: the faster one on this device
    workers: CountOrZero = 2  # data-loading processes
    timeout_minutes: Minutes = 30  # stop if a process keeps the others waiting this long, minutes


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    if options.start and options.backbone != "none":
        raise InputError(f"start={options.start} is a whole model: leave out backbone={options.backbone}")
    options.architecture = options.architecture or architecture_of(options)
    check_start(options.architecture, options.backbone, options.imagenet_weights)
    also = [folder for folder in (options.renders, *options.further) if folder]
    run = start_fine_tuning(options, percentiles(options), options.components, also)
    labelled, splits = run.labelled, run.splits

    # Every repeat has its own seed for the random weights, the crops and their order, and for which labels are used.
    for seed, folder in run.unfinished_repeats():
        fitted, choosing = parts_of_training(splits.training, options.label_count, seed, splits.choosing)
        run.check_fitted(fitted)
        network = train(options, seed, labelled, fitted, folder, run.stop, splits.choosing, run.accelerator)
        if network is None:
            return EXIT_PREEMPTED
        share = run.sharing(folder)
        settings = best_settings(settings_of_start(options), as_network(network), labelled, choosing, share)
        began = options.start or initial_weights_name(options.architecture, options.backbone, options.imagenet_weights)
        details = describe_dense(part_of(options, DenseOptions), settings, labelled)
        details["micrograph"] = str(labelled.images[splits.held_out[0]].resolve())  # that the export is tried on
        if run.accelerator.is_main_process:
            save_dense(folder, network, {**details, "initial_weights": began})
        scores = score_dense(as_network(network), settings, labelled, splits.held_out, folder, share)
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
) -> DenseSegmenter | None:
    """Train one network; None when a signal stopped it early.

    It is that of the last epoch, or of the validated one of highest AJI+ where there are micrographs to validate on.

    Args:
        of_run: the run's Accelerator, of which there is one a run.
    """
    accelerator = of_run or make_accelerator(options.precision)
    crops = make_crops(options, seed, labelled, fitted)
    loader = crop_loader(crops, options.batch, seed, options.workers, accelerator)
    network = build_network(options, seed).to(memory_format=torch.channels_last)
    body = getattr(network.encoder, "body", None)
    groups = parameter_groups(network, body, options.weight_decay, options.layer_decay)
    steps = options.epochs * epoch_sampler(loader).batches()
    model = AveragedTraining(network, dense_losses, options.average)
    optimizer = torch.optim.AdamW(groups, lr=options.rate)
    optimizer.register_step_post_hook(lambda *_: model.follow())
    averaged = cast(DenseSegmenter, model.average.module)
    some = range(min(STATISTICS_BATCHES * options.batch, len(crops)))

    def renew_statistics() -> None:
        """The average's batch statistics are those of no weights at all: anew, on crops of a further epoch."""
        images = torch.stack([crops[options.epochs, sample]["image"] for sample in some])
        estimate_statistics(averaged, (part.to(accelerator.device) for part in images.split(options.batch)))

    share = SharedWork(accelerator, stop, shown=False)
    trainer = Trainer(
        model,
        optimizer,
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
    finished = train_to_best(
        trainer,
        settle=renew_statistics,
        kept=averaged,
        aji_plus=lambda shown: mean_aji_plus(as_network(averaged), DenseSettings(), labelled, shown, share),
        validating=validating,
    )
    return averaged.eval() if finished else None


def make_crops(options: Options, seed: int, labelled: LabelledSet, fitted: np.ndarray) -> DenseCrops:
    """Crops of the micrographs that are fitted to, of renders and of the further sets, each with its share."""
    size = {"size": options.crop, "scale_range": EMPTY_SCALES, "size_range": tuple(options.size_range)}
    cut = partial(DetectionCrops, seed=seed, **size, rotation=options.rotation, pad="reflect", depths=True)
    sources, shares = [cut(labelled, fitted)], [1.0]
    if options.renders:
        renders = LabelledSet(options.renders, percentiles=labelled.percentiles, components=options.components)
        sources.append(cut(renders, np.arange(len(renders))))
        shares.append(options.render_share)
    further_shares = options.further_shares * (len(options.further) if len(options.further_shares) == 1 else 1)
    if len(further_shares) != len(options.further) > 0:
        raise InputError(
            f"further_shares={options.further_shares} are not one for each of {len(options.further)} further sets: "
            "give one number for all, or one for each"
        )
    for folder, share in zip(options.further, further_shares, strict=False):
        further = LabelledSet(folder, percentiles=labelled.percentiles, components=options.components)
        fraction, pattern = options.validation_fraction, options.further_sample
        sources.append(cut(further, further.splits(fraction, options.split_seed, sample=pattern).training))
        shares.append(share)
    shares[0] -= sum(shares[1:])
    if shares[0] <= 0:
        raise InputError(f"render_share and further_shares leave no crops for {options.data}: lower them")
    return DenseCrops(sources, shares, options.crops_an_epoch, seed, options.inverted, options.annotated)


def build_network(options: Options, seed: int) -> DenseSegmenter:
    """The network with the weights that `options.start` or `options.backbone` names; all else is random under the seed.

    Raises:
        InputError: for weights that are not there, or another architecture's.
    """
    torch.manual_seed(seed)
    network = DenseSegmenter(part_of(options, DenseOptions))
    if options.start:
        started, _ = load_start(options.start)
        if started.architecture != network.architecture:
            raise InputError(f"start={options.start} is another network: set architecture={started.architecture}")
        network.load_state_dict(started.state_dict())
        return network
    # A timm network stands beside a branch of ours, which stays random; the U-Net's encoder is pretrained as a whole.
    body = getattr(network.encoder, "body", network.encoder)
    load_initial_weights(body, options.architecture, options.backbone, options.imagenet_weights)
    return network


def architecture_of(options: Options) -> str:
    """The architecture that `options.start` or `options.backbone` has; of random weights the U-Net's."""
    if options.start:
        return load_start(options.start)[0].architecture
    if options.backbone == IMAGENET:
        return IMAGENET_ARCHITECTURE
    return architecture_of_backbone(options.backbone) or "unet_medium"


def percentiles(options: Options) -> tuple[float, float]:
    """Those given, else those that the micrographs of `options.start` or `options.backbone` were normalised by."""
    if options.start and not options.percentiles:
        return percentile_range(load_start(options.start)[1]["percentiles"])
    return initial_percentiles(options.backbone, options.percentiles)


def settings_of_start(options: Options) -> DenseSettings:
    """Those of the model that was started from, or the usual ones."""
    return read_settings(load_start(options.start)[1]) if options.start else DenseSettings()


@lru_cache(1)
def load_start(start: str) -> tuple[DenseSegmenter, dict]:
    """The whole model that `start` names, and its details."""
    from sempre.deploy.released import find_weights  # here, for other starts need no model that comes with sempre

    return load_dense(find_weights(start))


if __name__ == "__main__":
    run_command(main)
