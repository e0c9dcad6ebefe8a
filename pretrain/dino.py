"""Pretrain a vision transformer or a ConvNeXtV2 on unlabelled micrographs with DINO, self-distillation without labels.

    python pretrain/dino.py configs/dino/vit_small.yaml store=store.h5 name=my_pretraining
    torchrun --nproc-per-node 4 pretrain/dino.py configs/dino/vit_small.yaml store=store.h5 name=my_pretraining

Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021: from a small view of a field a
student predicts what its teacher, a running mean of itself, makes of a large one. `runs/<name>/backbone/` holds the
teacher of the newest validation: the loss, whose target moves, ranks no epochs. The same command again goes on where
the last stopped. With `weights=` it continues from DINO's or DINOv2's official weights, or from a backbone pretrained
here; take a base_rate of 1e-5 to 1e-4 then.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import timm
import torch
from lightly.utils.scheduler import cosine_schedule, linear_warmup_schedule
from torch import nn

from sempre.config import read_options
from sempre.data.samplers import epoch_sampler
from sempre.data.views import View, ViewDataset, collate_views
from sempre.errors import InputError, run_command
from sempre.models.backbones import load_backbone_weights
from sempre.models.encoders import arguments_for, check_view_size
from sempre.models.official_vit import load_official_vit
from sempre.pretraining.collapse import feature_statistics
from sempre.pretraining.dino import DINO, momentum_for, parameter_groups
from sempre.ranges import Count, CountOrZero, InnerShare, Positive, PositiveOrZero, Range, RunName, ShareBelowOne
from sempre.training.loop import Hooks
from sempre.training.optimisation import cosine_with_warmup
from sempre.training.preemption import EXIT_PREEMPTED
from sempre.training.pretraining_run import PretrainingOptions, refuse_sharding, scaled_rate, start_pretraining
from sempre.training.run_folder import RunLog

WATCHED = 64  # validation views whose features are watched for collapse
WATCHED_AT_ONCE = 8
FIRST_TEMPERATURE = 0.04  # of the teacher's softmax
FINAL_RATE = 1e-6


@dataclass(kw_only=True)
class Options(PretrainingOptions):
    name: RunName = "dino"  # the run goes to runs/<name>
    architecture: str = "vit_small_patch16_224"  # timm's vit_{small,base}_patch{8,16}_224, vit_…_dinov2 or convnextv2_…
    weights: str = ""  # initial weights: official DINO or DINOv2 file (.pth) or backbone/ folder; empty: random
    epochs: Count = 300  # passes over the training images; each gives one field a pass
    warmup_epochs: PositiveOrZero = 10  # epochs in which the learning rate rises linearly
    field: Annotated[int, Range(2)] = 640  # side of the square from which all views are cut, px
    global_size: Count = 224  # side of the two global views, px: a multiple of the patch size
    local_size: Count = 96  # side of the local views, px: a multiple of the patch size
    local_views: CountOrZero = 8  # number of local views; 0: none
    scale_split: InnerShare = 0.4  # global views show more than this share of the field, local views less
    smallest_scale: InnerShare = 0.05  # smallest share of the field's area that a local view shows
    outputs: Annotated[int, Range(2)] = 65536  # output channels of the projection heads
    norm_last_layer: bool = True  # keep rows of the last layer at unit length; false can suit a stable small ViT
    drop_path: ShareBelowOne = 0.1  # probability that the student skips its last block; falls to 0 at the first
    teacher_momentum: ShareBelowOne = 0.0  # initial momentum, rises to 1; 0: by batch size, 0.9995 for 256
    teacher_temperature: Positive = 0.07  # final temperature of the teacher's softmax; lower is sharper
    temperature_epochs: PositiveOrZero = 30  # epochs in which the teacher's temperature rises
    freeze_epochs: PositiveOrZero = 1  # first epochs, in which the heads' last layer is frozen
    base_rate: PositiveOrZero = 5e-4  # learning rate for batch=256; it scales linearly with the batch
    weight_decay: PositiveOrZero = 0.04  # initial weight decay of AdamW
    final_weight_decay: PositiveOrZero = 0.4  # final weight decay, reached along a cosine
    clip_gradient: PositiveOrZero = 3.0  # largest gradient norm; 0: no clipping


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    run = start_pretraining(options, partial(check, options))
    device = run.accelerator.device

    # Data: large and small views of one field. Validation keeps epoch 0, so its views are fixed.
    groups = {"global_views": (View(options.global_size, scale=(options.scale_split, 1.0)), 2)}
    if options.local_views:
        local_view = View(options.local_size, scale=(options.smallest_scale, options.scale_split))
        groups["local_views"] = (local_view, options.local_views)
    views = ViewDataset(run.store, run.training, groups, options.field, options.seed)
    fixed_views = ViewDataset(run.store, run.validation, groups, options.field, options.split_seed)
    loader = run.loader(views, collate_views, shuffle=True, seed=options.seed)
    validation_loader = run.loader(fixed_views, collate_views, shuffle=False, seed=0)

    # Model: two of timm's networks; the teacher's is what will be kept.
    torch.manual_seed(options.seed)
    arguments = arguments_for(options.architecture, options.global_size)
    create = partial(timm.create_model, options.architecture, in_chans=1, num_classes=0, **arguments)
    student = create(drop_path_rate=options.drop_path)
    load_first_weights(student, options)
    model = DINO(student, create(), options.outputs, options.norm_last_layer)
    if options.compile:
        model.student.network.compile()
        model.teacher.network.compile()

    # Optimisation: AdamW; rate, decay, momentum and temperature follow the step.
    peak = scaled_rate(options, options.base_rate)
    optimizer = torch.optim.AdamW(parameter_groups(model, options.weight_decay), lr=peak)
    optimizer.register_step_post_hook(lambda *_: model.follow())
    batches = epoch_sampler(loader).batches()
    steps = options.epochs * batches
    momentum = options.teacher_momentum or momentum_for(options.batch)
    run.announce(peak, batches)

    def temperature(step: int) -> float:
        warmup = round(options.temperature_epochs * batches)
        return linear_warmup_schedule(step, warmup, FIRST_TEMPERATURE, options.teacher_temperature)

    def follow_schedules(model: DINO, step: int) -> None:
        model.momentum = cosine_schedule(step, steps, momentum, 1.0)
        model.teacher_temperature = temperature(step)
        _, decayed, last_layer = optimizer.param_groups
        weight_decay = cosine_schedule(step, steps, options.weight_decay, options.final_weight_decay)
        decayed["weight_decay"] = last_layer["weight_decay"] = weight_decay

    def rest_last_layer(model: DINO, step: int) -> None:
        # Without gradients it has no part in the norm that is clipped to, and the optimiser's moments do not begin.
        if step < options.freeze_epochs * batches:
            for weight in optimizer.param_groups[-1]["params"]:
                weight.grad = None

    @torch.no_grad()
    def validate(model: DINO, log: RunLog, step: int) -> dict[str, float]:
        model.teacher_temperature = temperature(step)
        values = run.mean_losses(model, validation_loader)
        if run.accelerator.is_main_process:
            first = collate_views([fixed_views[0, sample] for sample in range(min(WATCHED, len(fixed_views)))])
            images = first["global_views"][:, 0].to(device).split(WATCHED_AT_ONCE)
            values |= feature_statistics(model.teacher.network, run.stop.watch(images))
        return values

    progress = run.train(
        model,
        optimizer,
        loader,
        rate=lambda step: cosine_with_warmup(
            step, steps, round(options.warmup_epochs * batches), peak, min(FINAL_RATE, peak)
        ),
        hooks=Hooks(
            before_step=follow_schedules,
            watch=DINO.watch,
            after_backward=rest_last_layer,
            validate=validate,
            export=lambda model, loss: run.export(model.teacher.network, "dino", loss, arguments),
            export_best=False,
        ),
        clip_gradient=options.clip_gradient or None,
    )
    if progress is None:
        return EXIT_PREEMPTED
    run.say(f"the teacher of the last epoch: {run.folder / 'backbone'}")
    return 0


def check(options: Options) -> None:
    refuse_sharding(options, "the weight norm of DINO's heads cannot be copied")
    for name in ("global_size", "local_size"):
        check_view_size(name, getattr(options, name), options.architecture)
    if options.smallest_scale >= options.scale_split:
        raise InputError(
            f"smallest_scale={options.smallest_scale} is not below scale_split={options.scale_split}: lower it"
        )
    if options.weights and not Path(options.weights).exists():
        raise InputError(f"weights={options.weights} does not exist: give an official .pth file or a backbone/ folder")


def load_first_weights(network: nn.Module, options: Options) -> None:
    """Load what `weights` names, if anything."""
    if not options.weights:
        return
    if Path(options.weights).is_dir():
        load_backbone_weights(network, options.weights, options.architecture)
    else:
        load_official_vit(network, options.weights)


if __name__ == "__main__":
    run_command(main)
