"""Fine-tune a pretrained backbone by reconstruction, on unlabelled micrographs.

    python finetune/reconstruction.py store=store.h5 backbone=runs/dino/backbone name=my_reconstruction
    python finetune/reconstruction.py store=store.h5 backbone=dinov2_vitb14_pretrain.pth crop=224 batch=16

All but the last two layers of the backbone stay frozen; these and a decoder of three upsampling blocks learn to
reconstruct whole crops (L1). `runs/<name>/backbone/` holds the backbone of the epoch with the lowest validation loss,
which every evaluator reads, with layer=-1, for earlier layers are as they were; weights for colour images become the
same network of one channel. The same command again goes on where the last stopped.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import send_to_device
from timm.models.convnext import ConvNeXt
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_weight_decay
from torch.utils.data import default_collate

from sempre.config import read_options
from sempre.data.crops import CropDataset, normalise_batch
from sempre.data.samplers import epoch_sampler
from sempre.errors import InputError, run_command
from sempre.frozen.encoder import Encoder, open_encoder
from sempre.images import to_uint8
from sempre.images.normalise import MEAN, STD
from sempre.models.backbones import read_backbone_details
from sempre.models.weight_files import to_one_channel
from sempre.pretraining.collapse import feature_statistics
from sempre.pretraining.reconstruction import Reconstruction, Upsampling
from sempre.ranges import Count, CountOrZero, PositiveOrZero, RunName, Share
from sempre.training.loop import Hooks
from sempre.training.optimisation import cosine_with_warmup
from sempre.training.preemption import EXIT_PREEMPTED
from sempre.training.pretraining_run import PretrainingOptions, start_pretraining
from sempre.training.run_folder import RunLog

WATCHED = 64  # validation crops whose features are watched for collapse


@dataclass(kw_only=True)
class Options(PretrainingOptions):
    name: RunName = "reconstruction"  # the run goes to runs/<name>
    backbone: str = "???"  # backbone/ folder, official .pth file, timm's name or random:<timm's name>
    weights: str = ""  # DINO or DINOv2 file, if backbone= is a name
    architecture: str = ""  # leave it empty, or give the backbone's own name
    layers: Count = 2  # number of last blocks of the backbone that are trained
    decoder_width: Count = 256  # channels of the decoder's first block
    upsampling: Upsampling = "bilinear"  # of the decoder; transposed: by convolutions of stride 2, each followed by 1x1
    crop: Count = 224  # side of random crops, px; vision transformers: a multiple of the patch size
    flip: Share = 0.5  # probability of a horizontal flip
    epochs: Count = 50  # passes over the training images; each gives one crop a pass
    batch: Count = 32  # crops in one step, summed over all processes
    warmup_epochs: PositiveOrZero = 2  # epochs in which the learning rate rises linearly
    rate: PositiveOrZero = 3e-4  # highest learning rate of AdamW
    weight_decay: PositiveOrZero = 0.05  # weight decay of AdamW, for matrices only
    panels: CountOrZero = 4  # number of validation images drawn, with reconstructions, into TensorBoard and figures/


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    encoder = open_encoder(options.backbone, options.weights, seed=options.seed)
    options.architecture = options.architecture or encoder.architecture
    run = start_pretraining(options, partial(check, options, encoder))
    if encoder.percentiles not in (None, run.store.percentiles):
        raise InputError(
            f"{options.store} was prepared with percentiles={list(run.store.percentiles)}, {options.backbone} was "
            f"pretrained with {list(encoder.percentiles)}: prepare the store alike"
        )

    # Data: random crops. Validation keeps epoch 0, so its crops are fixed.
    crops = CropDataset(run.store, run.training, options.crop, options.flip, options.seed, True, normalise=False)
    fixed_crops = CropDataset(run.store, run.validation, options.crop, 0.0, options.split_seed, True, normalise=False)
    loader = run.loader(crops, collate, shuffle=True, seed=options.seed)
    validation_loader = run.loader(fixed_crops, collate, shuffle=False, seed=0)

    # Model: the backbone, mostly frozen, and the decoder.
    network = encoder.network
    if (encoder.mean, encoder.std) != ((MEAN,), (STD,)):
        network = to_one_channel(network, encoder.mean, encoder.std)
    torch.manual_seed(options.seed)
    model = Reconstruction(network, options.layers, options.decoder_width, options.upsampling)
    arguments = timm_arguments(options, encoder)
    if options.compile:
        model.compile()

    # Optimisation: AdamW on what learns, the rate warms up and falls as a cosine.
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, options.weight_decay), lr=options.rate)
    batches = epoch_sampler(loader).batches()
    run.announce(options.rate, batches)

    @torch.no_grad()
    def validate(model: Reconstruction, log: RunLog, step: int) -> dict[str, float]:
        values = run.mean_losses(model, validation_loader)
        if run.accelerator.is_main_process:
            first = [fixed_crops[0, sample] for sample in range(min(WATCHED, len(fixed_crops)))]
            images = normalise_batch(send_to_device(collate(first)["image"], run.accelerator.device))
            if options.panels:
                shown = images[: options.panels]
                log.picture(step, "reconstructions", side_by_side(shown, model.reconstruct(shown)))
            values |= feature_statistics(model.network, run.stop.watch(images.split(16)))
        return values

    progress = run.train(
        model,
        optimizer,
        loader,
        rate=lambda step: cosine_with_warmup(
            step, options.epochs * batches, round(options.warmup_epochs * batches), options.rate
        ),
        hooks=Hooks(
            validate=validate,
            export=lambda model, loss: run.export(model.network, "reconstruction", loss, arguments),
        ),
    )
    if progress is None:
        return EXIT_PREEMPTED
    run.say(f"lowest validation loss {progress.best:.4f}: {run.folder / 'backbone'}")
    return 0


def check(options: Options, encoder: Encoder) -> None:
    if not isinstance(encoder.network, ConvNeXt | VisionTransformer):
        raise InputError(f"backbone={options.backbone} has nothing to fine-tune: choose a ConvNeXtV2 or a ViT")
    if options.architecture != encoder.architecture:
        raise InputError(
            f"backbone={options.backbone} is a {encoder.architecture}, not a {options.architecture}: "
            "leave architecture away"
        )
    if options.crop < encoder.cell or options.crop % encoder.cell:
        nearest = max(1, round(options.crop / encoder.cell)) * encoder.cell
        raise InputError(f"crop={options.crop} is no multiple of {encoder.cell} px: take {nearest}")


def timm_arguments(options: Options, encoder: Encoder) -> dict:
    """What timm makes the network with, so that the artefact's readers make the same one."""
    if Path(options.backbone).is_dir() and not options.weights:
        return read_backbone_details(options.backbone).arguments
    return {"dynamic_img_size": True} if isinstance(encoder.network, VisionTransformer) else {}


def collate(samples: list[dict]) -> dict[str, torch.Tensor]:
    """A batch of `image`, uint8 `[B, 1, crop, crop]`."""
    return {"image": default_collate([sample["image"] for sample in samples])}


def side_by_side(images: torch.Tensor, reconstructions: torch.Tensor) -> np.ndarray:
    """Normalised images `[B, 1, H, W]` in a row above their reconstructions, uint8 `[2 * H, B * W]`."""
    rows = [torch.cat(list(row[:, 0]), dim=1) for row in (images, reconstructions)]
    return to_uint8(torch.cat(rows).cpu().numpy() * STD + MEAN)


if __name__ == "__main__":
    run_command(main)
