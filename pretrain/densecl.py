"""Pretrain a ConvNeXtV2 or a vision transformer on unlabelled micrographs by dense contrastive learning (DenseCL).

    python pretrain/densecl.py configs/densecl/pico.yaml store=store.h5 name=my_pretraining
    torchrun --nproc-per-node 4 pretrain/densecl.py configs/densecl/pico.yaml store=store.h5 name=my_pretraining

Wang et al., "Dense contrastive learning for self-supervised visual pre-training", CVPR 2021: two augmented views of one
place agree as a whole and cell by cell, against those of other micrographs. `runs/<name>/backbone/` holds the query
encoder as it was last validated, or at its lowest validation loss (`keep=lowest`). The same command again goes on where
the last stopped.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import timm
import torch
from accelerate.utils import send_to_device

from sempre.config import read_options
from sempre.data.samplers import epoch_sampler
from sempre.data.views import View, ViewDataset, collate_views
from sempre.errors import InputError, run_command
from sempre.models.encoders import arguments_for, check_view_size
from sempre.pretraining.collapse import feature_statistics
from sempre.pretraining.densecl import DenseCL
from sempre.ranges import Count, Positive, PositiveOrZero, PositiveShare, RunName, Share
from sempre.training.loop import Hooks
from sempre.training.optimisation import pretraining_groups, steps_with_warmup
from sempre.training.preemption import EXIT_PREEMPTED
from sempre.training.pretraining_run import PretrainingOptions, refuse_sharding, scaled_rate, start_pretraining
from sempre.training.run_folder import RunLog

WATCHED = 64  # validation micrographs whose features are watched for collapse


@dataclass(kw_only=True)
class Options(PretrainingOptions):
    name: RunName = "densecl"  # the run goes to runs/<name>
    architecture: str = "convnextv2_pico"  # any ConvNeXtV2 or vision transformer of timm, convnextv2_… or vit_…
    field: Count = 640  # side of the square from which both views are cut, px
    crop: Count = 224  # side of a view, px: a multiple of 32, or of a vision transformer's patch size
    smallest_share: PositiveShare = 0.2  # smallest share of the field's area that a view shows
    negatives: Count = 65536  # size of the queue of earlier keys; a query's own image is left out
    projection_width: Count = 2048  # hidden channels of the projection heads
    dense_weight: Share = 0.5  # weight of the dense loss, lambda in the paper
    temperature: Positive = 0.2  # temperature of the softmax over positive and negative keys
    key_momentum: Share = 0.999  # momentum of the key encoder's moving average, per step
    warmup_epochs: PositiveOrZero = 10  # epochs in which the learning rate rises linearly
    base_rate: PositiveOrZero = 0.3  # learning rate for batch=256; it scales linearly with the batch
    weight_decay: PositiveOrZero = 1e-4  # weight decay of SGD
    layer_decay: PositiveShare = 1.0  # learning rate of each layer relative to the layer above it
    keep: Literal["last", "lowest"] = "last"  # backbone to keep: last validated, or lowest loss


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    run = start_pretraining(options, partial(check, options))
    device = run.accelerator.device
    if len(run.training) < options.batch:
        raise InputError(f"batch={options.batch} is more than the {len(run.training)} training images: take fewer")

    # Data: two views of one field of each micrograph. Validation keeps epoch 0, so its views are fixed.
    groups = {"views": (View(options.crop, scale=(options.smallest_share, 1.0)), 2)}
    views = ViewDataset(run.store, run.training, groups, options.field, options.seed)
    fixed_views = ViewDataset(run.store, run.validation, groups, options.field, options.split_seed)
    collate = partial(collate_views, with_samples=True)
    loader = run.loader(views, collate, shuffle=True, seed=options.seed)
    validation_loader = run.loader(fixed_views, collate, shuffle=False, seed=0)

    # Model: timm's network with a global and a dense projection, and the moving average of the whole.
    torch.manual_seed(options.seed)
    arguments = arguments_for(options.architecture, options.crop)
    model = DenseCL(
        timm.create_model(options.architecture, in_chans=1, num_classes=0, **arguments),
        options.negatives,
        (options.projection_width, 128),
        options.dense_weight,
        options.temperature,
        options.key_momentum,
        epoch_sampler(loader).samples_of(0),
    )
    if options.compile:
        model.query.compile()
        model.key.compile()

    # Optimisation: SGD, the rate scales with the global batch, warms up and falls tenfold twice.
    peak = scaled_rate(options, options.base_rate)
    groups_of_weights = pretraining_groups(model, model.query.network, options.weight_decay, options.layer_decay)
    optimizer = torch.optim.SGD(groups_of_weights, lr=peak, momentum=0.9)
    optimizer.register_step_post_hook(lambda *_: model.follow())
    batches = epoch_sampler(loader).batches()
    run.announce(peak, batches)

    @torch.no_grad()
    def validate(model: DenseCL, log: RunLog, step: int) -> dict[str, float]:
        values = run.mean_losses(model, validation_loader)
        if run.accelerator.is_main_process:
            first = [fixed_views[0, sample] for sample in range(min(WATCHED, len(fixed_views)))]
            watched = send_to_device(collate_views(first), device)["views"][:, 0]
            values |= feature_statistics(model.query.network, run.stop.watch(watched.split(16)))
        return values

    progress = run.train(
        model,
        optimizer,
        loader,
        rate=lambda step: steps_with_warmup(
            step, options.epochs * batches, round(options.warmup_epochs * batches), peak
        ),
        hooks=Hooks(
            validate=validate,
            # The loss depends on the negatives at hand. The lowest need not be the best: by default the newest is kept.
            export=lambda model, loss: run.export(model.query.network, "densecl", loss, arguments),
            export_best=options.keep == "lowest",
        ),
    )
    if progress is None:
        return EXIT_PREEMPTED
    run.say(f"lowest validation loss {progress.best:.4f}, {options.keep} backbone in {run.folder / 'backbone'}")
    return 0


def check(options: Options) -> None:
    refuse_sharding(options, "PyTorch's fused SGD takes no shares of weights")
    check_view_size("crop", options.crop, options.architecture)


if __name__ == "__main__":
    run_command(main)
