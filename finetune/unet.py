"""Train a small U-Net that makes foreground masks, from micrographs, prototype heat maps or both; score it held out.

    python finetune/unet.py data=my_set backbone=runs/fcmae/backbone layer=-2 name=refined
    python finetune/unet.py data=my_set input=raw label_share=0.2 name=unet_20
    python finetune/unet.py data=my_set input=colour levels=6 loss=cross_entropy name=deep

`data` is a labelled set; foreground is what any instance covers. A heat map says how much each place is like particles
and unlike background to a frozen backbone, judged by prototypes from points in the micrographs that the network is
fitted to. Held out is one split, or with `protocol=leave_one_sample_out` each sample in turn. When to stop and the
threshold are decided on a part of the training split. `runs/<name>/fold-<n>/` holds the model and the masks that it
predicts, `runs/<name>/summary.json` the scores. The same command again goes on where the last stopped. Several
processes (`accelerate launch`) share each batch, and the micrographs that are scored.
"""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from sempre.config import read_options
from sempre.data.crops import MaskCrops
from sempre.data.folds import Fold, FoldOptions, make_folds
from sempre.data.groups import read_groups
from sempre.data.labelled import LabelledSet
from sempre.data.samplers import EpochSampler, epoch_sampler
from sempre.data.splits import Splits
from sempre.data.volume_slices import SliceOptions, open_labelled
from sempre.errors import InputError, run_command
from sempre.files import read_json, write_json
from sempre.frozen.embedding_file import Embeddings
from sempre.frozen.encoder import open_encoder
from sempre.frozen.extract import ExtractionOptions, extract, file_percentiles
from sempre.frozen.extract import check as check_extraction
from sempre.frozen.heat_maps import fit_heat_maps, fit_own_heat_maps
from sempre.frozen.refinement import (
    INPUTS,
    RefinerInputs,
    as_batch,
    choose_cut,
    input_channels,
    score_fold,
    summarise_folds,
)
from sempre.frozen.tasks import labelled_source
from sempre.models.unet import LOSSES, UNet, UNetLoss
from sempre.models.weight_files import DETAILS, WEIGHTS, load_weights, save_weights
from sempre.ranges import Count, CountOrZero, NotEmpty, OneOf, Percent, PositiveOrZero, Range, RunName, Seed
from sempre.report.refinement_page import refinement_examples, write_refinement_report
from sempre.report.transfer_page import spread_text
from sempre.training.accelerator import make_accelerator
from sempre.training.loop import Hooks, LoopOptions, Trainer
from sempre.training.optimisation import cosine_with_warmup as falling
from sempre.training.optimisation import estimate_statistics
from sempre.training.preemption import EXIT_PREEMPTED, StopSignal
from sempre.training.run_folder import lock_run, open_run
from sempre.training.scoring import KEPT, SharedWork, done_by_main, results_of_training, said_by_main

SCHEDULES = ("cosine", "constant")
HEAT_RULES = ("otsu", "top", "mixture")
HeatRule = Annotated[str, OneOf(*HEAT_RULES)]
Cuts = Annotated[list[float], NotEmpty(), Range(above=0, below=1)]
MIDDLE = 0.5  # the cut where no micrograph is left to choose it on
MAY_CHANGE = ("workers", "batch", "embeddings", "groups")


@dataclass(kw_only=True)
class Options(FoldOptions, SliceOptions, ExtractionOptions):
    name: RunName = "unet"  # the run goes to runs/<name>
    groups: str = ""  # also score groups: magnification, folder, or a CSV file of rows name,group
    input: Annotated[str, OneOf(*INPUTS)] = "raw+heatmap"  # U-Net's input; raw: grey values; mask: the heat map's mask
    backbone: str = ""  # for heat maps: backbone/ folder, .pth file, timm's name or random:<timm's name>
    weights: str = ""  # DINO or DINOv2 file, if backbone= is a name
    size: CountOrZero = 512  # resize the longer side to this, px; 0: keep the resolution
    points: Count = 10  # points drawn in each fitted micrograph on particles, and as many on background
    margin: PositiveOrZero = 3.0  # smallest distance from points to particle outlines, px
    heat: Annotated[str, OneOf("fitted", "own_slice")] = "fitted"  # own_slice: prototypes from each slice's own points
    prototypes: Count = 4  # number of prototypes of particles, and of background
    negative_weight: PositiveOrZero = 0.8  # weight of the similarity to background in the heat map
    threshold: HeatRule = "otsu"  # threshold of the heat map's mask, the U-Net's baseline
    percent: Percent = 10.0  # share of a micrograph that threshold=top takes, %
    width: Count = 16  # channels of the U-Net's first level
    levels: Annotated[int, Range(1, 10)] = 2  # how often the U-Net halves the resolution; channels double each time
    loss: Annotated[str, OneOf(*LOSSES)] = "bce_dice"  # bce_dice: half cross-entropy, half Dice
    crop: Count = 128  # side of the training crops, px
    crops_an_epoch: Count = 128  # crops in one epoch, for any number of micrographs
    crops_an_image: CountOrZero = 0  # or: this many crops of each training micrograph
    turn: bool = True  # rotate crops by quarter turns and mirror them, at random
    batch_norm: Annotated[str, OneOf("estimated", "running")] = "estimated"  # estimated: from an epoch's crops
    crops_a_step: Count = 8  # crops from which one gradient is computed
    epochs: Count = 40  # largest number of epochs
    patience: CountOrZero = 15  # stop after this many epochs without a lower loss on the stopping micrographs
    rate: PositiveOrZero = 1e-3  # initial learning rate of Adam
    schedule: Annotated[str, OneOf(*SCHEDULES)] = "cosine"  # how the learning rate falls; constant: not at all
    cuts: Cuts = field(default_factory=lambda: np.linspace(0.2, 0.8, 13).tolist())  # probability thresholds to try
    repeats: Count = 1  # trainings on each fold, with seeds seed, seed + 1, …
    seed: Seed = 0  # random seed of weights, crops, points and labelled micrographs


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    check(options)
    stop, accelerator = StopSignal(), make_accelerator(options.precision)
    encoder = None
    if "heatmap" in options.input:
        encoder = open_encoder(options.backbone, options.weights, options.layer, options.seed)
    folder = Path("runs") / options.name
    if said_by_main(accelerator, (folder / "config.yaml").exists):
        begin(folder, options, accelerator)  # before its slices are written anew
    percentiles = file_percentiles(options, encoder)
    opened = done_by_main(
        accelerator,
        lambda: open_labelled(options.data, folder / "slices", options, percentiles, options.plain_percentiles).folder,
    )
    labelled = LabelledSet(opened, percentiles=percentiles, components=None, plain=options.plain_percentiles)
    folds = make_folds(labelled, options)
    groups = read_groups(options.groups, labelled.paths)
    digests = {}
    for fold in folds:
        splits = Splits(*map(np.array, (fold.fitted, fold.stopping, fold.held_out)))
        labelled.check_particles(splits)
        digests |= {f"{fold.name}/{name}": digest for name, digest in labelled.digests(splits).items()}
    begin(folder, options, accelerator, digests)

    # What the frozen backbone makes of the micrographs is the same for all folds; the prototypes are not.
    embeddings = None
    if encoder is not None:
        used = sorted({index for fold in folds for index in (*fold.fitted, *fold.stopping, *fold.held_out)})
        source = labelled_source(labelled, np.array(used), "colour" in options.input)
        embeddings = Embeddings(done_by_main(accelerator, lambda: extract(source, encoder, options).path))

    # Every repeat has its own seed for the weights, the crops and the points, on the same folds.
    repeats = []
    for repeat in range(options.repeats):
        seeded, scores = replace(options, seed=options.seed + repeat), {}
        for number, fold in enumerate(folds):
            part = fold_folder(folder, number, repeat)
            if not said_by_main(accelerator, (part / "summary.json").exists):
                inputs = make_inputs(labelled, embeddings, fold, seeded)
                network = train(inputs, fold, part, seeded, stop, accelerator)
                if network is None:
                    return EXIT_PREEMPTED
                share = SharedWork(accelerator, stop, results_of_training(part, accelerator))
                cut = choose_cut(network, inputs, fold, options.cuts, share) if fold.stopping else MIDDLE
                found = score_fold(network, cut, inputs, fold, part, share)
                if accelerator.is_main_process:
                    details = inputs.describe(cut, options.width, options.levels)
                    details |= inputs.describe_heat_maps(options.backbone, options.weights, options.seed)
                    write_json(part / DETAILS, details)
                    write_json(part / "summary.json", found)
                    shutil.rmtree(part / KEPT, ignore_errors=True)
                accelerator.free_memory()
            scores[fold.name] = said_by_main(accelerator, lambda part=part: read_json(part / "summary.json"))
        repeats.append(scores)
    if not accelerator.is_main_process:
        return 0

    summary = {
        "data": options.data,
        "input": options.input,
        "backbone": f"{options.backbone} {options.weights}".strip(),
        **summarise_folds(repeats, groups),
    }
    write_json(folder / "summary.json", summary)
    folders = [fold_folder(folder, number, 0) for number in range(len(folds))]
    write_refinement_report(folder / "report.html", summary, refinement_examples(labelled, repeats[0], folders))
    refined, before = summary["refined"], summary["heat_map"]
    shown = f"Dice {spread_text(refined['dice'], 3)}, IoU {spread_text(refined['iou'], 3)}, HD95 "
    shown += f"{spread_text(refined['hd95_px'], 1)} px on {summary['micrographs']} micrographs"
    if before:
        shown += f"; before, Dice {spread_text(before['dice'], 3)}, HD95 {spread_text(before['hd95_px'], 1)} px"
    print(f"{shown} (± over micrographs / over repeats): {folder / 'report.html'}")
    return 0


def begin(folder: Path, options: Options, accelerator: Accelerator, digests: dict[str, str] | None = None) -> None:
    """Begin the run, or go on with it; the main process keeps others out."""
    with accelerator.main_process_first():
        open_run(folder, options, MAY_CHANGE, micrographs=digests)
        if accelerator.is_main_process:
            lock_run(folder)


def fold_folder(folder: Path, number: int, repeat: int) -> Path:
    return folder / (f"fold-{number}-repeat-{repeat}" if repeat else f"fold-{number}")


def check(options: Options) -> None:
    check_extraction(options)
    if "heatmap" in options.input and not options.backbone:
        raise InputError(f"input={options.input} needs a heat map: give backbone=, or take input=raw")
    if "colour" in options.input and options.slices:
        raise InputError(f"input={options.input} needs colours, and volumes are grey: take raw in place of colour")
    if options.crop < (smallest := 1 << options.levels):
        raise InputError(f"levels={options.levels} leave nothing of crop={options.crop}: take crop={smallest} or more")


def make_inputs(labelled: LabelledSet, embeddings: Embeddings | None, fold: Fold, options: Options) -> RefinerInputs:
    """The inputs of a fold; the prototypes of its heat maps are from the micrographs that the network is fitted to."""
    heat_maps = None
    if embeddings is not None:
        heat_maps = fit_heat_maps(
            [embeddings[labelled.sha256s[index]] for index in fold.fitted],
            [labelled.read(index).foreground for index in fold.fitted],
            options.points,
            options.margin,
            options.prototypes,
            options.negative_weight,
            options.seed,
        )
        if options.heat == "own_slice":
            everyone = [*fold.fitted, *fold.stopping, *fold.held_out]
            heat_maps = fit_own_heat_maps(
                [embeddings[labelled.sha256s[index]] for index in everyone],
                [labelled.read(index).foreground for index in everyone],
                heat_maps,
                options.points,
                options.margin,
                options.prototypes,
                options.seed,
            )
    source = labelled_source(labelled, np.arange(len(labelled)), "colour" in options.input)
    rule = options.threshold, options.percent
    return RefinerInputs(labelled, source, embeddings, heat_maps, options, options.input, *rule)


def train(
    inputs: RefinerInputs,
    fold: Fold,
    folder: Path,
    options: Options,
    stop: StopSignal,
    of_run: Accelerator | None = None,
) -> UNet | None:
    """The network of the epoch with the lowest loss on the stopping micrographs, of the last one where there are none;
    None when a signal stopped it.

    Args:
        of_run: the run's Accelerator, of which there is one a run.
    """
    accelerator = of_run or make_accelerator(options.precision)
    images = [inputs.image(index) for index in fold.fitted]
    masks = [inputs.mask(index, image.shape[1:]) for index, image in zip(fold.fitted, images, strict=True)]
    names = [inputs.labelled.names[index] for index in fold.fitted]
    count = options.crops_an_image * len(images) or options.crops_an_epoch
    crops = MaskCrops(images, masks, names, options.crop, count, options.seed, options.turn)
    # Without workers: a crop of what is in memory is cut sooner than it is passed to another process.
    ranks, rank = accelerator.num_processes, accelerator.process_index
    sampler = EpochSampler(len(crops), options.crops_a_step, options.seed, rank, ranks)
    loader = DataLoader(crops, batch_sampler=sampler)
    share = SharedWork(accelerator, stop, shown=False)

    # Crops of an epoch that is never trained on, for the statistics of the batch normalisation.
    fixed = torch.stack([crops[options.epochs, sample]["image"] for sample in range(len(crops))])

    torch.manual_seed(options.seed)
    model = UNetLoss(UNet(input_channels(options.input), options.width, options.levels), options.loss)
    model = model.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def validate(model: UNetLoss, *_) -> dict[str, float]:
        # Or the loss would jump from epoch to epoch, and the best one would be found by luck.
        if options.batch_norm == "estimated":
            parts = (part.to(accelerator.device) for part in fixed.split(options.crops_a_step))
            estimate_statistics(model.network, parts)
        if not fold.stopping:
            return {"loss": 0.0}

        def losses_of(index: int) -> dict[str, float]:
            image = inputs.image(index)
            mask = torch.from_numpy(inputs.mask(index, image.shape[1:])).float().to(accelerator.device)
            losses = model(as_batch(image, accelerator.device), mask[None, None])
            return {name: float(loss) for name, loss in losses.items()}

        losses = share(fold.stopping, losses_of, "validating")
        return {name: float(np.mean([part[name] for part in losses])) for name in losses[0]}

    steps = options.epochs * epoch_sampler(loader).batches()
    trainer = Trainer(
        model,
        torch.optim.Adam(model.parameters(), lr=options.rate),
        loader,
        lambda step: options.rate if options.schedule == "constant" else falling(step, steps, 0, options.rate),
        LoopOptions(epochs=options.epochs, seed=options.seed, patience=options.patience if fold.stopping else 0),
        Hooks(
            validate=validate,
            export=lambda model, loss: save_weights(model.network, folder / WEIGHTS),
            export_best=bool(fold.stopping),
        ),
        accelerator=accelerator,
        folder=folder,
        stop=stop,
    )
    if trainer.train() is None:
        return None
    load_weights(model.network, folder / WEIGHTS)
    return model.network.eval()


if __name__ == "__main__":
    run_command(main)
