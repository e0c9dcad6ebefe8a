"""Pretrain the dense segmenter's encoder on unlabelled micrographs by sparse masked modelling (SparK).

    python pretrain/spark.py configs/spark/medium.yaml store=store.h5 name=my_pretraining
    torchrun --nproc-per-node 4 pretrain/spark.py configs/spark/medium.yaml store=store.h5 name=my_pretraining
    python finetune/dense.py data=my_set architecture=unet_medium backbone=runs/my_pretraining/backbone
    python pretrain/spark.py architecture=tf_efficientnet_lite0 weights=imagenet store=store.h5 name=from_imagenet

Tian et al., "Designing BERT for convolutional networks: sparse and hierarchical masked modeling", ICLR 2023: 60% of the
32x32 px patches are hidden, the encoder sees the others and no hidden cell at any of its scales, a light U-Net-like
decoder paints the hidden ones. The encoder is our own U-Net, or any convolutional network of timm's, which can go on
from its ImageNet weights. `runs/<name>/backbone/` holds the encoder of the epoch with the lowest validation loss.
The same command again goes on where the last stopped.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from timm.optim import param_groups_weight_decay
from torch import nn

from sempre.config import read_options
from sempre.data.crops import CropDataset
from sempre.data.samplers import epoch_sampler
from sempre.errors import InputError, run_command
from sempre.models.encoders import TimmEncoder
from sempre.models.initial_weights import check_start, load_initial_weights
from sempre.models.masked_convolutions import maskable_encoder
from sempre.models.packed import PATCH
from sempre.models.unet_encoder import WIDTHS, UNetEncoder
from sempre.pretraining.masked_autoencoders import SparK, mask_and_collate
from sempre.ranges import CountOrZero, InnerShare, PositiveOrZero, Range, RunName, Share
from sempre.training.loop import Hooks
from sempre.training.optimisation import cosine_with_warmup
from sempre.training.preemption import EXIT_PREEMPTED
from sempre.training.pretraining_run import (
    PretrainingOptions,
    refuse_sharding,
    scaled_rate,
    start_pretraining,
    validate_reconstruction,
)


@dataclass(kw_only=True)
class Options(PretrainingOptions):
    name: RunName = "spark"  # the run goes to runs/<name>
    architecture: str = "unet_medium"  # unet_small, unet_medium or a convolutional network of timm's
    weights: str = ""  # initial weights: a backbone folder, or imagenet; empty: random
    imagenet_weights: str = ""  # file of ImageNet weights; empty: an installed package, then timm's hub
    mask_ratio: InnerShare = 0.6  # share of the patches that are hidden
    decoder_width: Annotated[int, Range(16)] = 256  # channels of the decoder at stride 32, halved at each finer scale
    normalise_target: bool = True  # normalise each target patch by its own mean and deviation
    crop: Annotated[int, Range(2 * PATCH, step=PATCH)] = 256  # side of the random crops, px
    flip: Share = 0.5  # probability of a horizontal flip
    base_rate: PositiveOrZero = 4e-3  # learning rate for batch=256; it scales linearly with the batch
    weight_decay: PositiveOrZero = 0.05  # weight decay of AdamW
    panels: CountOrZero = 4  # number of validation images drawn into TensorBoard and figures/


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    run = start_pretraining(options, partial(check, options))

    # Data: random crops, most of each hidden. Validation keeps epoch 0, so its crops and masks are fixed.
    crops = CropDataset(run.store, run.training, options.crop, options.flip, options.seed, normalise=False)
    fixed_crops = CropDataset(run.store, run.validation, options.crop, 0.0, options.split_seed, normalise=False)
    mask = partial(mask_and_collate, crop=options.crop, mask_ratio=options.mask_ratio)
    loader = run.loader(crops, partial(mask, seed=options.seed), shuffle=True, seed=options.seed)
    validation_loader = run.loader(fixed_crops, partial(mask, seed=options.split_seed), shuffle=False, seed=0)

    # Model: the encoder in its masked form, a light way up as decoder.
    torch.manual_seed(options.seed)
    unet = options.architecture in WIDTHS
    network = UNetEncoder(options.architecture) if unet else maskable_encoder(options.architecture)
    load_initial_weights(body_of(network), options.architecture, options.weights or "none", options.imagenet_weights)
    model = SparK(network, options.decoder_width, options.normalise_target).to(memory_format=torch.channels_last)
    if options.compile:
        model.encoder.compile()

    # Optimisation: AdamW, the rate scales with the global batch, warms up and falls as a cosine.
    peak = scaled_rate(options, options.base_rate)
    groups = param_groups_weight_decay(model, options.weight_decay)
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
            export=lambda model, loss: run.export(body_of(model.encoder.network), "spark", loss),
        ),
    )
    if progress is None:
        return EXIT_PREEMPTED
    run.say(f"lowest validation loss {progress.best:.4f}: {run.folder / 'backbone'}")
    return 0


def check(options: Options) -> None:
    """Look at the options that depend on each other, before anything is read."""
    check_start(options.architecture, options.weights or "none", options.imagenet_weights)
    if options.architecture not in WIDTHS:
        maskable_encoder(options.architecture)
        if options.compile:
            raise InputError(f"compile=true takes a U-Net, not architecture={options.architecture}: leave it out")
        refuse_sharding(options, "the masks reach into a network of timm's while it runs")


def body_of(network: UNetEncoder | TimmEncoder) -> nn.Module:
    """What is exported: our own U-Net, or timm's network under timm's names."""
    return network if isinstance(network, UNetEncoder) else network.body


if __name__ == "__main__":
    run_command(main)
