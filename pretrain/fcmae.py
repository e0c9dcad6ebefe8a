"""Pretrain a ConvNeXtV2 on unlabelled micrographs with a fully convolutional masked autoencoder (FCMAE).

    python pretrain/fcmae.py configs/fcmae/pico.yaml store=store.h5 name=my_pretraining
    torchrun --nproc-per-node 4 pretrain/fcmae.py configs/fcmae/pico.yaml store=store.h5 name=my_pretraining

Woo et al., "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders", CVPR 2023: patches of 32x32 px
are hidden, a sparse encoder sees the others, a small decoder paints the hidden ones. They hide 60 %; half is what
Rettenberger et al. take for SEM (doi 10.1038/s41524-025-01802-3, in configs/papers/). `runs/<name>/backbone/` holds the
encoder of the epoch with the lowest validation loss. The same command again goes on where the last stopped.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import timm
import torch
from torch import nn

from sempre.config import read_options
from sempre.data.crops import CropDataset
from sempre.data.samplers import epoch_sampler
from sempre.errors import InputError, run_command
from sempre.models.backbones import load_backbone_weights
from sempre.models.minkowski import MinkowskiEncoder
from sempre.models.original_fcmae import load_original_weights
from sempre.models.packed import PATCH, PackedEncoder
from sempre.pretraining.masked_autoencoders import FCMAE, mask_and_collate
from sempre.ranges import Count, CountOrZero, InnerShare, PositiveOrZero, PositiveShare, Range, RunName, Share
from sempre.training.loop import Hooks
from sempre.training.optimisation import cosine_with_warmup, pretraining_groups
from sempre.training.preemption import EXIT_PREEMPTED
from sempre.training.pretraining_run import (
    PretrainingOptions,
    refuse_sharding,
    scaled_rate,
    start_pretraining,
    validate_reconstruction,
)

ENCODERS = {"packed": PackedEncoder, "minkowski": MinkowskiEncoder}


@dataclass(kw_only=True)
class Options(PretrainingOptions):
    name: RunName = "fcmae"  # the run goes to runs/<name>
    architecture: str = "convnextv2_pico"  # timm's convnextv2_atto, _femto, _pico, _nano, _tiny, _base, _large or _huge
    weights: str = ""  # initial weights: backbone folder or .pth of the original code; empty: random
    average_stem: bool = False  # weights= of a colour network: average its first kernels over the colours
    encoder: Literal["packed", "minkowski"] = "packed"  # minkowski: same network on MinkowskiEngine (make minkowski)
    mask_ratio: InnerShare = 0.5  # share of the patches that are hidden
    decoder_width: Count = 512  # channels of the decoder's one block
    normalise_target: bool = True  # normalise each target patch by its own mean and deviation
    grn_scope: Literal["image", "batch"] = "image"  # batch, in one process: as the original sparse code
    crop: Annotated[int, Range(2 * PATCH, step=PATCH)] = 640  # side of the random crops, px
    flip: Share = 0.5  # probability of a horizontal flip
    turn: bool = False  # also rotate crops by random quarter turns
    base_rate: PositiveOrZero = 8e-4  # learning rate for batch=256; it scales linearly with the batch
    weight_decay: PositiveOrZero = 0.05  # weight decay of AdamW
    layer_decay: PositiveShare = 1.0  # learning rate of each layer relative to the layer above it
    panels: CountOrZero = 4  # number of validation images drawn into TensorBoard and figures/


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    run = start_pretraining(options, partial(check, options), whole_batch=options.grn_scope == "batch")

    # Data: random crops, a share of each hidden. Validation keeps epoch 0, so its crops and masks are fixed.
    crops = CropDataset(
        run.store, run.training, options.crop, options.flip, options.seed, normalise=False, turn=options.turn
    )
    fixed_crops = CropDataset(run.store, run.validation, options.crop, 0.0, options.split_seed, normalise=False)
    mask = partial(mask_and_collate, crop=options.crop, mask_ratio=options.mask_ratio)
    loader = run.loader(crops, partial(mask, seed=options.seed), shuffle=True, seed=options.seed)
    validation_loader = run.loader(fixed_crops, partial(mask, seed=options.split_seed), shuffle=False, seed=0)

    # Model: timm's network as sparse encoder, one wide block as decoder.
    torch.manual_seed(options.seed)
    network = timm.create_model(options.architecture, in_chans=1, num_classes=0)
    if options.weights:
        load_initial_weights(network, options)
    model = FCMAE(
        network, options.decoder_width, options.normalise_target, options.grn_scope, ENCODERS[options.encoder]
    )
    if options.compile:
        model.compile(dynamic=False)

    # Optimisation: AdamW, the rate scales with the global batch, warms up and falls as a cosine.
    peak = scaled_rate(options, options.base_rate)
    groups = pretraining_groups(model, network, options.weight_decay, options.layer_decay)
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95))
    batches = epoch_sampler(loader).batches()
    run.announce(peak, batches)

    validate = partial(
        validate_reconstruction,
        run=run,
        loader=validation_loader,
        crops=fixed_crops,
        collate=partial(mask, seed=options.split_seed),
        panels=options.panels,
    )
    progress = run.train(
        model,
        optimizer,
        loader,
        rate=lambda step: cosine_with_warmup(
            step, options.epochs * batches, round(options.warmup_epochs * batches), peak
        ),
        hooks=Hooks(
            validate=validate,
            export=lambda model, loss: run.export(model.encoder.network, "fcmae", loss),
        ),
    )
    if progress is None:
        return EXIT_PREEMPTED
    run.say(f"lowest validation loss {progress.best:.4f}: {run.folder / 'backbone'}")
    return 0


def check(options: Options) -> None:
    if not options.architecture.startswith("convnextv2_") or not timm.is_model(options.architecture):
        raise InputError(f"architecture={options.architecture} is no ConvNeXtV2: choose convnextv2_atto to _huge")
    if options.encoder == "minkowski":
        refuse_sharding(options, "MinkowskiEngine's layers take a block's weights without calling the block")
    if options.encoder == "minkowski" and options.compile:
        raise InputError("compile=true takes encoder=packed: MinkowskiEngine's layers cannot be compiled")


def load_initial_weights(network: nn.Module, options: Options) -> None:
    if Path(options.weights).is_dir():
        load_backbone_weights(network, options.weights, options.architecture)
    else:
        load_original_weights(network, options.weights, options.average_stem)


if __name__ == "__main__":
    run_command(main)
