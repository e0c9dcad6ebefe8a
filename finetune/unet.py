"""Train a small U-Net that makes foreground masks, from micrographs, prototype heat maps or both; score it held out.

    python finetune/unet.py data=my_set backbone=runs/fcmae/backbone layer=-2 name=refined
    python finetune/unet.py data=my_set input=raw label_share=0.2 name=unet_20
    python finetune/unet.py data=my_set input=colour levels=6 loss=cross_entropy name=deep

`data` is a labelled set; foreground is what any instance covers. A heat map says how much each place is like particles
and unlike background to a frozen backbone, judged by prototypes from points in the micrographs that the network is
fitted to. Held out is one side of the split, or with `protocol=leave_one_sample_out` each sample in turn. When to stop
and the threshold are decided on a part of the training side. `runs/<name>/fold-<n>/` holds the model and the masks that
it predicts, `runs/<name>/summary.json` the scores. The same command again goes on where the last stopped.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from sempre.config import read_options
from sempre.data.folds import Fold, FoldOptions, make_folds
from sempre.data.labelled import LabelledSet
from sempre.data.mask_crops import MaskCrops
from sempre.data.samplers import EpochSampler
from sempre.data.sources import FolderSource
from sempre.embeddings.embedding_file import Embeddings
from sempre.embeddings.encoder import open_encoder
from sempre.embeddings.extract import ExtractionOptions, as_channels, extract, input_shape
from sempre.embeddings.extract import check as check_extraction
from sempre.embeddings.heat_maps import HeatMaps, fit_heat_maps
from sempre.embeddings.tasks import labelled_source
from sempre.embeddings.thresholds import threshold
from sempre.errors import InputError, run_command
from sempre.files import whole_or_absent, write_json
from sempre.images.resize import resize_to
from sempre.metrics import dice, hd95, iou
from sempre.models.batch_norm import estimate_statistics
from sempre.models.unet import LOSSES, UNet, mask_losses
from sempre.models.weights import load_weights, save_weights
from sempre.training.accelerator import make_accelerator
from sempre.training.loop import fit
from sempre.training.preemption import EXIT_PREEMPTED, StopSignal
from sempre.training.run_folder import lock_run, open_run
from sempre.training.schedule import cosine_with_warmup

CHANNELS = {"raw": 1, "colour": 3, "heatmap": 1, "mask": 1}
INPUTS = ("raw", "colour", "heatmap", "raw+heatmap", "colour+heatmap", "raw+heatmap+mask", "colour+heatmap+mask")
THRESHOLDS = np.linspace(0.2, 0.8, 13)
WEIGHTS, DETAILS = "model.safetensors", "model.json"


@dataclass(kw_only=True)
class Options(FoldOptions, ExtractionOptions):
    name: str = "unet"  # the run goes to runs/<name>
    input: str = "raw+heatmap"  # raw (grey values) or colour, +heatmap, +mask (the heat map's own, by Otsu); heatmap
    backbone: str = ""  # that makes the heat maps: backbone/ folder, .pth file, timm's name or random:<timm's name>
    weights: str = ""  # official DINO or DINOv2 file for the architecture that backbone names
    size: int = 512  # longer side that backbone and U-Net see micrographs at, px; 0 keeps their own resolution
    points: int = 10  # of particles in a fitted micrograph, and of background, that prototypes are made from
    margin: float = 3.0  # of the points to the particles' outlines, px
    prototypes: int = 4  # of particles, and of background
    negative_weight: float = 0.8  # of the likeness to background in the heat map
    width: int = 16  # channels of the U-Net's first level
    levels: int = 2  # halvings of the resolution in the U-Net; the channels double with each
    loss: str = "bce_dice"  # half cross-entropy, half Dice; or cross_entropy or l1 alone
    crop: int = 128  # side of the training crops, px
    crops_an_epoch: int = 128  # however many micrographs they come from
    crops_a_step: int = 8  # so many make one gradient
    epochs: int = 40  # at the most
    patience: int = 15  # epochs in a row without a lower loss on the stopping micrographs that end the training
    rate: float = 1e-3  # learning rate of Adam at first; it falls as a cosine
    seed: int = 0  # of weights, crops, points, and which micrographs are the labelled share


@dataclass(frozen=True)
class Inputs:
    """What the U-Net sees of micrographs, by their position in the labelled set."""

    labelled: LabelledSet
    source: FolderSource
    embeddings: Embeddings | None
    heat_maps: HeatMaps | None
    options: Options

    def image(self, index: int) -> np.ndarray:
        """The network's channels, float16 `[C, h, w]`: half of the memory, and finer than the 8 bits of the pixels."""
        pixels, pixel_size_nm = self.source.read(index)
        shape = input_shape(self.source.names[index], pixels.shape[:2], pixel_size_nm, self.options)
        levels = as_channels(resize_to(pixels, shape)).numpy() / np.float32(255)
        channels = {"colour" if pixels.ndim == 3 else "raw": levels}
        if self.embeddings is not None:
            heat = self.heat_maps(self.embeddings[self.labelled.sha256s[index]])
            channels |= {"heatmap": heat[None], "mask": heat[None] > threshold(heat, "otsu")}
        return np.concatenate([channels[name] for name in self.options.input.split("+")]).astype(np.float16)

    def mask(self, index: int, shape: tuple[int, int]) -> np.ndarray:
        """The true mask at the size of the network's input, bool `[h, w]`."""
        return resize_to(self.labelled.read(index).foreground.astype(np.float32), shape) >= 0.5


class UNetLoss(nn.Module):
    """The network's losses on a batch."""

    def __init__(self, network: UNet, loss: str):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return mask_losses(self.network(image), mask, self.loss)


def main() -> int | None:
    options = read_options(Options)
    check(options)
    stop = StopSignal()
    labelled = LabelledSet(options.data)
    folds = make_folds(labelled, options)
    folder = open_run(Path("runs") / options.name, options, ("workers", "batch", "embeddings"), labelled.fingerprint)
    lock_run(folder)

    # What the frozen backbone makes of the micrographs is the same for all folds; the prototypes are not.
    embeddings = None
    if "heatmap" in options.input:
        encoder = open_encoder(options.backbone, options.weights, options.layer, options.seed)
        used = sorted({index for fold in folds for index in (*fold.fitted, *fold.stopping, *fold.held_out)})
        embeddings = extract(labelled_source(labelled, np.array(used), "colour" in options.input), encoder, options)

    scores = {}
    for number, fold in enumerate(folds):
        summary = folder / f"fold-{number}/summary.json"
        if not summary.exists():
            inputs = make_inputs(labelled, embeddings, fold, options)
            network = train(inputs, fold, summary.parent, options, stop)
            if network is None:
                return EXIT_PREEMPTED
            cut = best_threshold(labelled_predictions(network, inputs, fold.stopping))
            save_details(summary.parent / DETAILS, inputs, cut)
            write_json(summary, score(network, cut, inputs, fold, summary.parent / "predictions"))
        scores[fold.name] = json.loads(summary.read_text())

    samples = {name: sample for fold in scores.values() for name, sample in fold["samples"].items()}
    means = {name: float(np.mean([sample[name] for sample in samples.values()])) for name in ("dice", "iou", "hd95_px")}
    write_json(folder / "summary.json", {"scores": means, "micrographs": len(samples), "folds": scores})
    shown = f"Dice {means['dice']:.3f}, IoU {means['iou']:.3f}, HD95 {means['hd95_px']:.1f} px"
    print(f"{shown} on {len(samples)} micrographs")
    return None


def check(options: Options) -> None:
    check_extraction(options)
    if options.input not in INPUTS:
        raise InputError(f"input={options.input} is unknown: choose {', '.join(INPUTS)}")
    if "heatmap" in options.input and not options.backbone:
        raise InputError(f"input={options.input} needs a heat map: give backbone=, or take input=raw")
    if options.loss not in LOSSES:
        raise InputError(f"loss={options.loss} is unknown: choose {', '.join(LOSSES)}")
    counts = ("points", "width", "levels", "crop", "crops_an_epoch", "crops_a_step", "epochs")
    for name in counts:
        if getattr(options, name) < 1:
            raise InputError(f"{name}={getattr(options, name)} is too few: take at least 1")
    if options.crop < (smallest := 1 << options.levels):
        raise InputError(f"levels={options.levels} leave nothing of crop={options.crop}: take crop={smallest} or more")


def make_inputs(labelled: LabelledSet, embeddings: Embeddings | None, fold: Fold, options: Options) -> Inputs:
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
    source = labelled_source(labelled, np.arange(len(labelled)), "colour" in options.input)
    return Inputs(labelled, source, embeddings, heat_maps, options)


def train(inputs: Inputs, fold: Fold, folder: Path, options: Options, stop: StopSignal) -> UNet | None:
    """The network of the epoch with the lowest loss on the stopping micrographs; None when a signal stopped it."""
    accelerator = make_accelerator(options.precision)
    images = [inputs.image(index) for index in fold.fitted]
    masks = [inputs.mask(index, image.shape[1:]) for index, image in zip(fold.fitted, images, strict=True)]
    names = [inputs.labelled.names[index] for index in fold.fitted]
    crops = MaskCrops(images, masks, names, options.crop, options.crops_an_epoch, options.seed)
    # Without workers: a crop of what is in memory is cut sooner than it is passed to another process.
    loader = DataLoader(crops, batch_sampler=EpochSampler(len(crops), options.crops_a_step, options.seed))

    # Crops of an epoch that is never trained on, for the statistics of the batch normalisation.
    fixed = torch.stack([crops[options.epochs, sample]["image"] for sample in range(len(crops))])

    torch.manual_seed(options.seed)
    channels = sum(CHANNELS[name] for name in options.input.split("+"))
    model = UNetLoss(UNet(channels, options.width, options.levels), options.loss)
    model = model.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def validate(model: UNetLoss, *_) -> dict[str, float]:
        # Or the loss would jump from epoch to epoch, and the best one would be found by luck.
        estimate_statistics(model.network, (part.to(accelerator.device) for part in fixed.split(options.crops_a_step)))
        losses = []
        for index in stop.watch(fold.stopping):
            image = inputs.image(index)
            mask = torch.from_numpy(inputs.mask(index, image.shape[1:])).float().to(accelerator.device)
            losses.append(model(as_batch(image, accelerator.device), mask[None, None]))
        return {name: float(torch.stack([part[name] for part in losses]).mean()) for name in losses[0]}

    steps = options.epochs * loader.batch_sampler.batches()
    finished = fit(
        model,
        torch.optim.Adam(model.parameters(), lr=options.rate),
        loader,
        accelerator=accelerator,
        folder=folder,
        epochs=options.epochs,
        rate=lambda step: cosine_with_warmup(step, steps, 0, options.rate),
        seed=options.seed,
        validate=validate,
        patience=options.patience,
        stop=stop,
        export=lambda model, loss: save_weights(model.network, folder / WEIGHTS),
    )
    if finished is None:
        return None
    load_weights(model.network, folder / WEIGHTS)
    return model.network.eval()


def best_threshold(predictions: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """The threshold from 0.2 to 0.8 whose masks have the highest mean Dice, of equal ones the middle one.

    `predictions` are probabilities and true masks, both `[H, W]`.
    """
    scores = np.mean([[dice(true, image > cut) for cut in THRESHOLDS] for image, true in predictions], axis=0)
    best = np.flatnonzero(np.isclose(scores, scores.max()))
    return float(THRESHOLDS[best[len(best) // 2]])


def labelled_predictions(network: UNet, inputs: Inputs, indices: list[int]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Probabilities and true masks, float32 and bool `[H, W]` in px of the micrograph."""
    for index in indices:
        true = inputs.labelled.read(index).foreground
        yield resize_to(probabilities(network, inputs.image(index)), true.shape), true


@torch.inference_mode()
def probabilities(network: UNet, image: np.ndarray) -> np.ndarray:
    """How probably each px of a whole image `[C, h, w]` is foreground, float32 `[h, w]`."""
    return network(as_batch(image, next(network.parameters()).device)).sigmoid()[0, 0].float().cpu().numpy()


def score(network: UNet, cut: float, inputs: Inputs, fold: Fold, folder: Path) -> dict:
    """Write the held-out micrographs' masks as `folder/<name>.png`, and score them."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [inputs.labelled.names[index] for index in fold.held_out]
    predictions = labelled_predictions(network, inputs, fold.held_out)
    samples = {}
    for name, (image, true) in tqdm(zip(names, predictions, strict=True), total=len(names), desc="scoring"):
        mask = image > cut
        samples[name] = {"dice": dice(true, mask), "iou": iou(true, mask), "hd95_px": hd95(true, mask)}
        with whole_or_absent(folder / f"{name}.png") as partial:
            Image.fromarray(mask.astype(np.uint8) * 255).save(partial, format="PNG")
    training = {"fitted": fold.fitted, "stopping": fold.stopping}
    sides = {side: [inputs.labelled.names[index] for index in indices] for side, indices in training.items()}
    return {"threshold": cut, **sides, "samples": samples}


def save_details(path: Path, inputs: Inputs, cut: float) -> None:
    """What else is needed to use the network: its shape, its threshold, and what makes its heat maps."""
    details = {name: getattr(inputs.options, name) for name in ("input", "width", "levels", "size", "pixel_size_nm")}
    details |= {"threshold": cut, "percentiles": inputs.labelled.percentiles}
    if inputs.heat_maps is not None:
        maps, options = inputs.heat_maps, inputs.options
        details["heat_maps"] = {
            "backbone": f"{options.backbone} {options.weights}".strip(),
            "layer": options.layer,
            "encoder_checksum": inputs.embeddings.checksum,
            "positive": maps.positive.tolist(),
            "negative": maps.negative.tolist(),
            "weight": maps.weight,
            "mean": maps.mean,
            "std": maps.std,
        }
    write_json(path, details)


def as_batch(image: np.ndarray, device: torch.device) -> Tensor:
    """An image `[C, h, w]` as a float32 batch of one."""
    batch = torch.from_numpy(image).to(device, torch.float32)[None]
    return batch.contiguous(memory_format=torch.channels_last)


if __name__ == "__main__":
    run_command(main)
