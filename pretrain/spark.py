"""Pretrain the dense segmenter's U-Net encoder on unlabelled micrographs by sparse masked modelling (SparK).

    python pretrain/spark.py configs/spark/medium.yaml store=store.h5 name=my_pretraining
    torchrun --nproc-per-node 4 pretrain/spark.py configs/spark/medium.yaml store=store.h5 name=my_pretraining
    python finetune/dense.py data=my_set architecture=unet_medium backbone=runs/my_pretraining/backbone

Tian et al., "Designing BERT for convolutional networks: sparse and hierarchical masked modeling", ICLR 2023: 60% of the
32x32 px patches are hidden, the encoder sees the others and no hidden cell at any of its scales, a light U-Net-like
decoder paints the hidden ones. `runs/<name>/backbone/` holds the encoder of the epoch with the lowest validation loss.
The same command again goes on where the last stopped.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from timm.optim import param_groups_weight_decay

from sempre.config import read_options
from sempre.data.crops import CropDataset
from sempre.data.samplers import epoch_sampler
from sempre.errors import run_command
from sempre.models.backbones import load_backbone_weights
from sempre.models.packed import PATCH
from sempre.models.unet_encoder import WIDTHS, UNetEncoder
from sempre.pretraining.masked_autoencoders import SparK, mask_and_collate
from sempre.ranges import CountOrZero, InnerShare, OneOf, PositiveOrZero, Range, RunName, Share
from sempre.training.optimisation import cosine_with_warmup
from sempre.training.preemption import EXIT_PREEMPTED
from sempre.training.pretraining_run import PretrainingOptions, scaled_rate, start_pretraining, validate_reconstruction


@dataclass(kw_only=True)
class Options(PretrainingOptions):
    name: RunName = "spark"  # the run goes to runs/<name>
    architecture: Annotated[str, OneOf(*WIDTHS)] = "unet_medium"  # of the U-Net's encoder
    weights: str = ""  # continue from this backbone folder
    mask_ratio: InnerShare = 0.6  # share of the patches that is hidden
    decoder_width: Annotated[int, Range(16)] = 256  # channels of the decoder at stride 32, halved at each finer scale
    normalise_target: bool = True  # paint each patch in units of its own mean and deviation
    crop: Annotated[int, Range(2 * PATCH, step=PATCH)] = 256  # side of the random crops, px
    flip: Share = 0.5  # probability of a horizontal flip
    base_rate: PositiveOrZero = 4e-3  # learning rate for a global batch of 256; scales linearly
    weight_decay: PositiveOrZero = 0.05  # of AdamW
    panels: CountOrZero = 4  # validation images drawn into TensorBoard and figures/


def main() -> int | None:
    options = read_options(Options)
    run = start_pretraining(options)

    # Data: random crops, most of each hidden. Validation keeps epoch 0, so its crops and masks are fixed.
    crops = CropDataset(run.store, run.training, options.crop, options.flip, options.seed, normalise=False)
    fixed_crops = CropDataset(run.store, run.validation, options.crop, 0.0, options.split_seed, normalise=False)
    mask = partial(mask_and_collate, crop=options.crop, mask_ratio=options.mask_ratio)
    loader = run.loader(crops, partial(mask, seed=options.seed), shuffle=True, seed=options.seed)
    validation_loader = run.loader(fixed_crops, partial(mask, seed=options.split_seed), shuffle=False, seed=0)

    # Model: the U-Net's way down in its masked form, a light way up as decoder.
    torch.manual_seed(options.seed)
    network = UNetEncoder(options.architecture)
    if options.weights:
        load_backbone_weights(network, options.weights, options.architecture)
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
    progress = run.fit(
        model,
        optimizer,
        loader,
        rate=lambda step: cosine_with_warmup(
            step, options.epochs * batches, round(options.warmup_epochs * batches), peak
        ),
        validate=validate,
        export=lambda model, loss: run.export(model.encoder.network, "spark", loss),
    )
    if progress is None:
        return EXIT_PREEMPTED
    run.say(f"lowest validation loss {progress.best:.4f}: {run.folder / 'backbone'}")
    return None


if __name__ == "__main__":
    run_command(main)
