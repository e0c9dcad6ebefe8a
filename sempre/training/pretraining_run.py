"""What the pretraining recipes have in common: their options, how a run begins, validates and is exported."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, send_to_device
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from sempre.data.crops import CropDataset, normalise_batch
from sempre.data.samplers import EpochSampler
from sempre.data.shards import open_store, stage
from sempre.data.splits import seeded_subset
from sempre.data.store import Store
from sempre.data.views import ViewDataset
from sempre.errors import InputError
from sempre.images import to_uint8
from sempre.images.normalise import MEAN, STD
from sempre.models.backbones import BackboneDetails, save_backbone
from sempre.pretraining.collapse import feature_statistics
from sempre.pretraining.masked_autoencoders import MaskedAutoencoder, hide
from sempre.ranges import Count, CountOrZero, InnerShare, Minutes, PositiveOrZero, Precision, RunName, Seed
from sempre.training.accelerator import Speed, make_accelerator
from sempre.training.checkpointing import Progress
from sempre.training.loop import Hooks, LoopOptions, Trainer
from sempre.training.preemption import StopSignal
from sempre.training.run_folder import RunLog, lock_run, open_run
from sempre.training.validation import mean_losses

# How a run is computed, not what: it may go on under other values.
MAY_CHANGE = (
    "accumulation",
    "workers",
    "compile",
    "autotune",
    "static_graph",
    "bucket_view",
    "sharding",
    "stage_to",
    "log_every",
    "checkpoint_minutes",
    "timeout_minutes",
)


@dataclass(kw_only=True)
class PretrainingOptions:
    name: RunName = "???"  # the run goes to runs/<name>
    architecture: str = "???"  # timm's name of the network
    store: str = "???"  # HDF5 store made by data/prepare.py, or a folder or glob of its shards
    stage_to: str = ""  # first copy the store to this folder on each node, for example $TMPDIR
    epochs: Count = 800  # passes over the training images; each gives one crop a pass
    batch: Count = 256  # crops in one step, summed over all processes
    accumulation: Count = 1  # split each process's batch into this many parts to save memory
    warmup_epochs: PositiveOrZero = 40  # epochs in which the learning rate rises linearly
    validation_fraction: InnerShare = 0.2  # share of images held out; a hash of the file decides
    validate_every: Count = 1  # validate once in this many epochs
    split_seed: Seed = 0  # seed of the split; another one holds out other images
    image_seed: Seed = 0  # random seed that draws these image_count= images
    image_count: CountOrZero = 0  # use only this many training images; smaller counts are subsets; 0: all
    seed: Seed = 0  # random seed of weights, crops, masks, augmentations and order
    precision: Precision = "auto"  # number format; auto: bf16 if the GPU supports it, else float32
    compile: bool = False  # compile the network; takes about a minute, then trains faster on a GPU
    tf32: bool = False  # compute float32 matrix products in TF32: faster, less precise (10-bit mantissa)
    autotune: bool = False  # let cuDNN time its convolutions and use the fastest; runs then differ by rounding
    static_graph: bool = False  # with several processes: assume that each step uses the same parameters
    bucket_view: bool = False  # with several processes: save the memory of one copy of the gradients
    bf16_gradients: bool = False  # with several processes: sum gradients in bf16; halves traffic, rounds more
    sharding: Literal["none", "full"] = "none"  # full: split weights and moments among the processes
    workers: CountOrZero = 4  # data-loading processes for each training process
    log_every: Count = 10  # write a log line once in this many steps
    checkpoint_minutes: PositiveOrZero = 15  # minutes between checkpoints; 0: one with each log line
    timeout_minutes: Minutes = 30  # stop if a process keeps the others waiting this long, minutes


@dataclass(frozen=True)
class PretrainingRun:
    """A run that has begun: where it is, what it computes on, and the two splits."""

    options: PretrainingOptions
    folder: Path
    store: Store
    accelerator: Accelerator
    stop: StopSignal
    training: np.ndarray  # index rows of the store
    validation: np.ndarray

    def loader(
        self, dataset: CropDataset | ViewDataset, collate: Callable[[list], dict], shuffle: bool, seed: int
    ) -> DataLoader:
        """This process's share of the dataset's batches."""
        options, ranks, rank = self.options, self.accelerator.num_processes, self.accelerator.process_index
        return DataLoader(
            dataset,
            batch_sampler=EpochSampler(len(dataset), options.batch, seed, rank, ranks, shuffle),
            collate_fn=collate,
            num_workers=options.workers,
            persistent_workers=options.workers > 0,
            pin_memory=self.accelerator.device.type == "cuda",
            timeout=60 * options.timeout_minutes if options.workers else 0,
        )

    def say(self, text: str) -> None:
        """Print a line, once in all processes of all nodes."""
        if self.accelerator.is_main_process:
            print(text, flush=True)

    def announce(self, rate: float, batches: int) -> None:
        """Print what is about to be computed; the time it takes is printed once it has been measured."""
        options, processes = self.options, self.accelerator.num_processes
        parts = f" in {options.accumulation} parts" if options.accumulation > 1 else ""
        self.say(
            f"{options.architecture}: {len(self.training)} training and {len(self.validation)} validation micrographs, "
            f"{processes} x {self.accelerator.device.type}, global batch {options.batch} "
            f"({options.batch // processes} a process{parts}), rate {rate:.2g}, "
            f"{options.epochs} epochs of {batches} steps, {options.workers} loader workers a process"
        )
        if options.warmup_epochs >= options.epochs:
            self.say(
                f"warning: the rate warms up for warmup_epochs={options.warmup_epochs:g} and reaches no peak in "
                f"epochs={options.epochs}: give warmup_epochs below it"
            )

    def mean_losses(self, model: nn.Module, loader: DataLoader) -> dict[str, float]:
        """`sempre.training.validation.mean_losses` under the run's options."""
        return mean_losses(model, loader, self.accelerator, self.options.accumulation, self.stop)

    def train(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loader: DataLoader,
        rate: Callable[[int], float],
        hooks: Hooks,
        clip_gradient: float | None = None,
    ) -> Progress | None:
        """Train the model as `sempre.training.loop.Trainer` does, under the run's options.

        Args:
            rate: the learning rate at a step.
            hooks: what the method adds to the loop.
            clip_gradient: largest norm of the gradient.
        """
        options = self.options
        loop = LoopOptions(
            epochs=options.epochs,
            seed=options.seed,
            accumulation=options.accumulation,
            clip_gradient=clip_gradient,
            validate_every=options.validate_every,
            log_every=options.log_every,
            checkpoint_minutes=options.checkpoint_minutes,
        )
        trainer = Trainer(
            model,
            optimizer,
            loader,
            rate,
            loop,
            hooks,
            accelerator=self.accelerator,
            folder=self.folder,
            stop=self.stop,
        )
        return trainer.train()

    def export(self, network: nn.Module, method: str, loss: float, arguments: dict | None = None) -> None:
        """Write the network, of one channel, as the run's backbone; `arguments` are those timm made it with."""
        fingerprint, config = self.store.fingerprint, asdict(self.options)
        normalisation = {"percentiles": list(self.store.percentiles), "mean": MEAN, "std": STD}
        details = BackboneDetails(
            self.options.architecture, 1, method, fingerprint, loss, config, arguments or {}, normalisation
        )
        save_backbone(self.folder / "backbone", network, details)


def start_pretraining(
    options: PretrainingOptions, check: Callable[[], None] | None = None, whole_batch: bool = False
) -> PretrainingRun:
    """Open the store and begin or go on with the run `runs/<name>`.

    Args:
        check: looks at those of the recipe's own options that depend on each other.
        whole_batch: the network has to see a batch as a whole, for what it computes of one image depends on the others.

    Raises:
        InputError: for an option that cannot be, a run of other options or other data, or one that is in use.
    """
    if check is not None:
        check()
    check_exchange(options)
    stop = StopSignal()
    # Before the processes meet, for they do not wait for each other longer than the timeout.
    store = open_store(stage(options.store, options.stage_to) if options.stage_to else options.store)
    speed = Speed(**{field.name: getattr(options, field.name) for field in fields(Speed)})
    accelerator = make_accelerator(options.precision, options.timeout_minutes, speed)
    training, validation = store.split(options.validation_fraction, options.split_seed)
    if len(store) < 2:
        raise InputError(
            f"{store.path} holds {len(store)} micrographs: pretraining takes two at the least, one to validate"
        )
    if options.batch % (accelerator.num_processes * options.accumulation):
        raise InputError(
            f"a batch of {options.batch} does not divide over {accelerator.num_processes} processes in "
            f"{options.accumulation} parts: take a multiple of {accelerator.num_processes * options.accumulation}"
        )
    if whole_batch and accelerator.num_processes * options.accumulation > 1:
        raise InputError(
            f"what this network computes of an image depends on the whole batch, and {accelerator.num_processes} "
            f"processes with accumulation={options.accumulation} would cut it: start one process with accumulation=1, "
            "or choose grn_scope=image"
        )
    training = seeded_subset(training, options.image_count, (options.split_seed + options.image_seed) % 2**32)
    folder = Path("runs") / options.name
    with accelerator.main_process_first():
        open_run(folder, options, MAY_CHANGE, store.fingerprint)
        if accelerator.is_main_process:
            lock_run(folder)
    return PretrainingRun(options, folder, store, accelerator, stop, training, validation)


def check_exchange(options: PretrainingOptions) -> None:
    """Refuse ways to exchange weights and gradients that exclude each other.

    Raises:
        InputError: for a static graph where gradients are summed only after several parts, on which DDP fails with a
            riddle; for sharded weights with what is DDP's, or with compiling, for gathering a block breaks the graph.
    """
    if options.sharding == "full":
        for name in ("static_graph", "bucket_view", "compile"):
            if getattr(options, name):
                raise InputError(f"sharding=full does without {name}=true: leave out one of them")
    if options.static_graph and options.accumulation > 1:
        raise InputError(
            f"static_graph=true takes a process's share in one part, not in accumulation={options.accumulation}: "
            "leave out one of them"
        )


def refuse_sharding(options: PretrainingOptions, reason: str) -> None:
    """For methods and networks that do not train with sharded weights; `reason` says why.

    Raises:
        InputError: when they are asked for.
    """
    if options.sharding != "none":
        raise InputError(f"sharding={options.sharding} cannot be had here, for {reason}: leave it out")


def scaled_rate(options: PretrainingOptions, base_rate: float) -> float:
    """The linear rule: `base_rate` holds for a global batch of 256 (Goyal et al., 2017)."""
    return base_rate * options.batch / 256


GAP = 4  # px between panels
WATCHED = 64  # validation crops whose features are watched for collapse


@torch.no_grad()
def validate_reconstruction(
    model: MaskedAutoencoder,
    log: RunLog,
    step: int,
    *,
    run: PretrainingRun,
    loader: DataLoader,
    crops: CropDataset,
    collate: Callable[[list], dict[str, Tensor]],
    panels: int,
) -> dict[str, float]:
    """A masked autoencoder's validation losses and `feature_statistics`; `panels` reconstructions go to the log.

    Args:
        loader: the validation split's batches.
        crops: its crops, of which the first are shown and watched.
        collate: a batch of crops with their masks, as `loader` makes it.
    """
    # Each process has running statistics of its own: those of the main one, which are exported, are what is validated.
    for buffer in model.buffers():
        broadcast(buffer)
    values = run.mean_losses(model, loader)
    if run.accelerator.is_main_process:
        first = [crops[0, sample] for sample in range(min(WATCHED, len(crops)))]
        batch = send_to_device(collate(first), run.accelerator.device)
        batch["image"] = normalise_batch(batch["image"])
        shown = {name: part[:panels] for name, part in batch.items()}
        log.picture(step, "reconstructions", reconstruction_panels(model, **shown))
        network = model.encoder.get_submodule("network")
        values |= feature_statistics(network, run.stop.watch(batch["image"].split(panels or 1)))
    return values


def reconstruction_panels(model: MaskedAutoencoder, image: Tensor, visible: Tensor) -> np.ndarray:
    """One row a micrograph: original, what was visible, reconstruction; uint8 `[B * (H + 4), 3 * (W + 4)]`.

    Args:
        image: normalised crops `[B, 1, H, W]`.
        visible: ids of their visible patches `[B, K]`.
    """
    panels = torch.cat([image, hide(image, visible), model.reconstruct(image, visible)], dim=1)
    grey = to_uint8(panels.cpu().numpy() * STD + MEAN)  # [B, 3, H, W]
    framed = np.pad(grey, ((0, 0), (0, 0), (0, GAP), (0, GAP)), constant_values=255)
    rows, columns, height, width = framed.shape
    return framed.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
