"""Pretrain a ConvNeXtV2 on unlabelled micrographs with a fully convolutional masked autoencoder (FCMAE).

    python pretrain/fcmae.py configs/fcmae/pico.yaml store=store.h5 name=my_pretraining
    torchrun --nproc-per-node 4 pretrain/fcmae.py configs/fcmae/pico.yaml store=store.h5 name=my_pretraining

Woo et al., "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders", CVPR 2023: half of the 32x32 px
patches are hidden, a sparse encoder sees the others, a small decoder paints the hidden ones. `runs/<name>/backbone/`
holds the encoder of the epoch with the lowest validation loss. The same command again goes on where the last stopped.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from timm.optim import param_groups_weight_decay
from torch import Tensor
from torch.utils.data import DataLoader

from sempre.config import read_options
from sempre.data.datasets import CropDataset
from sempre.data.samplers import EpochSampler
from sempre.data.store import Store
from sempre.errors import InputError, run_command
from sempre.models.checkpoints import BackboneDetails, save_backbone
from sempre.models.packed import PATCH
from sempre.pretraining.fcmae import FCMAE, random_visible
from sempre.report.reconstructions import reconstruction_panels
from sempre.training.logging import RunLog
from sempre.training.loop import fit, make_accelerator
from sempre.training.preemption import EXIT_PREEMPTED
from sempre.training.run_folder import open_run
from sempre.training.schedule import cosine_with_warmup


@dataclass
class Options:
    store: str = "???"  # HDF5 store made by data/prepare.py
    name: str = "fcmae"  # the run goes to runs/<name>
    architecture: str = "convnextv2_pico"  # timm's convnextv2_atto, _femto, _pico, _nano, _tiny, _base, _large or _huge
    mask_ratio: float = 0.5  # share of the patches that is hidden
    decoder_width: int = 512  # channels of the decoder's one block
    normalise_target: bool = False  # paint each patch in units of its own mean and deviation
    grn_scope: str = "image"  # "batch" to continue from weights pretrained by the original sparse code
    crop: int = 640  # side of the random crops, px; a multiple of 32
    flip: float = 0.5  # probability of a horizontal flip
    epochs: int = 800  # passes over the training images, one crop each
    batch: int = 64  # crops a step and process
    accumulation: int = 1  # steps whose gradients are summed
    base_rate: float = 8e-4  # learning rate for a global batch of 256; scales linearly
    warmup_epochs: float = 40  # of linear warm-up
    weight_decay: float = 0.05  # of AdamW
    validation_fraction: float = 0.2  # share of the images held out, by a hash of their contents
    validate_every: int = 1  # epochs between validations
    split_seed: int = 0  # another seed holds out other images
    seed: int = 0  # of weights, crops, masks and order
    precision: str = "auto"  # auto (bf16 where a GPU has it), bf16 or float32
    compile: bool = False  # compile the encoder; worth its minute on a GPU
    workers: int = 4  # loader processes
    panels: int = 4  # validation images drawn into TensorBoard and figures/


def main() -> int | None:
    options = read_options(Options)
    store = Store(options.store)
    training, validation = store.split(options.validation_fraction, options.split_seed)
    check(options, store)
    accelerator = make_accelerator(options.precision, options.accumulation)
    with accelerator.main_process_first():
        folder = open_run(Path("runs") / options.name, options)

    # Data: random crops, half of each hidden. Validation keeps epoch 0, so its crops and masks are fixed.
    crops = CropDataset(store, training, options.crop, options.flip, options.seed)
    fixed_crops = CropDataset(store, validation, options.crop, flip=0.0, seed=options.split_seed)
    loader = make_loader(crops, options, accelerator, shuffle=True)
    validation_loader = make_loader(fixed_crops, options, accelerator, shuffle=False)

    # Model: timm's network as sparse encoder, one wide block as decoder.
    torch.manual_seed(options.seed)
    network = timm.create_model(options.architecture, in_chans=1, num_classes=0)
    model = FCMAE(network, options.decoder_width, options.normalise_target, options.grn_scope)
    if options.compile:
        model.encoder.compile()

    # Optimisation: AdamW, the rate scales with the global batch, warms up and falls as a cosine.
    global_batch = options.batch * options.accumulation * accelerator.num_processes
    peak = options.base_rate * global_batch / 256
    groups = param_groups_weight_decay(model, options.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95))
    batches = loader.batch_sampler.batches()
    accelerator.print(
        f"{options.architecture}: {len(training)} training and {len(validation)} validation micrographs, "
        f"global batch {global_batch}, rate {peak:.2g}, {options.epochs} epochs of {batches} steps"
    )

    @torch.no_grad()
    def validate(model: FCMAE, log: RunLog, step: int) -> float:
        total = torch.zeros(2, device=accelerator.device)
        for batch in validation_loader:
            images = batch["image"].to(accelerator.device)
            loss = model(images, batch["visible"].to(accelerator.device))["loss"]
            total += torch.stack([loss * len(images), loss.new_tensor(len(images))])
        if accelerator.is_main_process:
            first = [fixed_crops[0, sample] for sample in range(min(options.panels, len(fixed_crops)))]
            batch = send_to_device(validation_loader.collate_fn(first), accelerator.device)
            picture = reconstruction_panels(model, **batch)
            log.picture(step, "reconstructions", picture)
        total = accelerator.reduce(total)
        return float(total[0] / total[1])

    def export(model: FCMAE, loss: float) -> None:
        details = BackboneDetails(options.architecture, 1, "fcmae", store.fingerprint, loss, asdict(options))
        save_backbone(folder / "backbone", model.encoder.network, details)

    progress = fit(
        model,
        optimizer,
        loader,
        accelerator=accelerator,
        folder=folder,
        epochs=options.epochs,
        rate=lambda step: cosine_with_warmup(
            step, options.epochs * batches, round(options.warmup_epochs * batches), peak
        ),
        seed=options.seed,
        validate=validate,
        validate_every=options.validate_every,
        on_best=export,
    )
    if progress is None:
        return EXIT_PREEMPTED
    accelerator.print(f"lowest validation loss {progress.best:.4f}: {folder / 'backbone'}")
    return None


def check(options: Options, store: Store) -> None:
    if not options.architecture.startswith("convnextv2_"):
        raise InputError(f"architecture={options.architecture} is no ConvNeXtV2: choose convnextv2_atto to _huge")
    if options.crop % PATCH or options.crop < 2 * PATCH:
        raise InputError(f"crop={options.crop} is no multiple of {PATCH} px from {2 * PATCH} on")
    if not 0 < options.mask_ratio < 1:
        raise InputError(f"mask_ratio={options.mask_ratio} is not between 0 and 1")
    if options.grn_scope not in ("image", "batch"):
        raise InputError(f"grn_scope={options.grn_scope} is unknown: choose image or batch")
    if len(store) < 2:
        raise InputError(
            f"{store.path} holds {len(store)} micrographs: pretraining takes two at the least, one to validate"
        )


def make_loader(crops: CropDataset, options: Options, accelerator: Accelerator, shuffle: bool) -> DataLoader:
    ranks, rank = accelerator.num_processes, accelerator.process_index
    return DataLoader(
        crops,
        batch_sampler=EpochSampler(len(crops), options.batch * ranks, crops.seed, rank, ranks, shuffle),
        collate_fn=partial(mask_and_collate, crop=options.crop, mask_ratio=options.mask_ratio, seed=crops.seed),
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
        pin_memory=accelerator.device.type == "cuda",
    )


def mask_and_collate(samples: list[dict], crop: int, mask_ratio: float, seed: int) -> dict[str, Tensor]:
    """A batch of `image [B, 1, crop, crop]` and `visible [B, K]`, the mask a function of (seed, epoch, sample)."""
    patches = (crop // PATCH) ** 2
    visible = [random_visible(patches, mask_ratio, seed, sample["epoch"], sample["sample"]) for sample in samples]
    return {
        "image": torch.stack([sample["image"] for sample in samples]),
        "visible": torch.from_numpy(np.stack(visible)),
    }


if __name__ == "__main__":
    run_command(main)
