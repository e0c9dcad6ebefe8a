"""The U-Net that refines heat maps: its inputs, its masks, and its scores over folds."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sempre.data.folds import Fold
from sempre.data.labelled import LabelledSet, Share, one_by_one
from sempre.data.sources import FolderSource
from sempre.errors import InputError
from sempre.frozen.embedding_file import Embedding, Embeddings
from sempre.frozen.encoder import Encoder, open_encoder
from sempre.frozen.extract import ExtractionOptions, as_channels, input_shape
from sempre.frozen.heat_maps import HeatMaps, OwnHeatMaps
from sempre.frozen.prototype_study import spread
from sempre.frozen.prototypes import (
    best_cut,
    dice_of_cuts,
    threshold,
)
from sempre.images import write_mask_png
from sempre.images.resize import resize_to
from sempre.metrics import by_group, dice, hd95, iou
from sempre.models.unet import UNet
from sempre.models.weight_files import DETAILS, WEIGHTS, build_fitting, check_numbers, read_details

CHANNELS = {"raw": 1, "colour": 3, "heatmap": 1, "mask": 1}
INPUTS = ("raw", "colour", "heatmap", "raw+heatmap", "colour+heatmap", "raw+heatmap+mask", "colour+heatmap+mask")


def input_channels(names: str) -> int:
    """How many channels the network has for one of `INPUTS`."""
    return sum(CHANNELS[name] for name in names.split("+"))


def unet_input(
    names: str, pixels: np.ndarray, shape: tuple[int, int], heat: np.ndarray | None, rule: str, percent: float
) -> np.ndarray:
    """The network's channels, float16 `[C, h, w]`: half of the memory, and finer than the 8 bits of the pixels.

    Args:
        names: one of `INPUTS`, `CHANNELS` joined by +.
        pixels: the micrograph, uint8 `[H, W]`, or `[H, W, 3]` where the names tell of colour.
        shape: that the network sees it at.
        heat: its heat map `[h, w]`, where the names tell of one.
        rule, percent: the threshold of the heat map's own mask.
    """
    levels = as_channels(resize_to(pixels, shape)).numpy() / np.float32(255)
    channels = {"colour" if pixels.ndim == 3 else "raw": levels}
    if heat is not None:
        channels |= {"heatmap": heat[None], "mask": heat[None] > threshold(heat, rule, percent)}
    return np.concatenate([channels[name] for name in names.split("+")]).astype(np.float16)


@torch.inference_mode()
def probabilities(network: UNet, image: np.ndarray) -> np.ndarray:
    """How probably each px of a whole image `[C, h, w]` is foreground, float32 `[h, w]`."""
    return network(as_batch(image, next(network.parameters()).device)).sigmoid()[0, 0].float().cpu().numpy()


def as_batch(image: np.ndarray, device: torch.device) -> Tensor:
    """An image `[C, h, w]` as a float32 batch of one."""
    batch = torch.from_numpy(image).to(device, torch.float32)[None]
    return batch.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class RefinerInputs:
    """What the network sees of a labelled set's micrographs, by their positions in it, and what it is to say of them.

    `names` is one of `INPUTS`; `embeddings` and `heat_maps` are None where it tells of no heat map. `extraction` says
    at what size micrographs are seen, `rule` and `percent` are the threshold of the heat map's own mask.
    """

    labelled: LabelledSet
    source: FolderSource
    embeddings: Embeddings | None
    heat_maps: HeatMaps | OwnHeatMaps | None
    extraction: ExtractionOptions
    names: str
    rule: str
    percent: float

    def image(self, index: int) -> np.ndarray:
        """The network's channels, float16 `[C, h, w]`."""
        pixels, pixel_size_nm = self.source.read(index)
        shape = input_shape(self.source.names[index], pixels.shape[:2], pixel_size_nm, self.extraction)
        return unet_input(self.names, pixels, shape, self.heat(index), self.rule, self.percent)

    def heat(self, index: int) -> np.ndarray | None:
        """The heat map at the size of the network's input, float32 `[h, w]`; None where there is none."""
        if self.embeddings is None or self.heat_maps is None:
            return None
        return self.heat_maps(self.embeddings[self.labelled.sha256s[index]])

    def heat_mask(self, index: int, shape: tuple[int, int]) -> np.ndarray | None:
        """The heat map's own mask in px of the micrograph, bool `[H, W]`; None where there is none."""
        heat = self.heat(index)
        if heat is None:
            return None
        heat = resize_to(heat, shape)
        return heat > threshold(heat, self.rule, self.percent)

    def mask(self, index: int, shape: tuple[int, int]) -> np.ndarray:
        """The true mask at the size of the network's input, bool `[h, w]`."""
        return resize_to(self.labelled.read(index).foreground.astype(np.float32), shape) >= 0.5

    def prediction(self, network: UNet, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The network's probabilities and the true mask, float32 and bool `[H, W]` in px of the micrograph."""
        true = self.labelled.read(index).foreground
        return resize_to(probabilities(network, self.image(index)), true.shape), true

    def describe(self, cut: float, width: int, levels: int) -> dict:
        """What `model.json` says of the network beside its heat maps' origin: all that its use needs.

        Args:
            cut: px of a higher probability are foreground.
            width, levels: of the U-Net.
        """
        sizes = {name: getattr(self.extraction, name) for name in ("size", "square", "scale", "pixel_size_nm", "layer")}
        return {
            "input": self.names,
            "width": width,
            "levels": levels,
            **sizes,
            "percent": self.percent,
            "threshold": cut,
            "percentiles": self.labelled.percentiles,
            "plain_percentiles": self.labelled.plain,
            "mask_threshold": self.rule,
        }

    def describe_heat_maps(self, backbone: str, weights: str, seed: int) -> dict:
        """What `model.json` says of the heat maps, where there are any: their prototypes, and the backbone's origin.

        Args:
            backbone, weights, seed: as `sempre.frozen.encoder.open_encoder` takes them.
        """
        if self.embeddings is None or self.heat_maps is None:
            return {}
        own = isinstance(self.heat_maps, OwnHeatMaps)
        maps = self.heat_maps.common if isinstance(self.heat_maps, OwnHeatMaps) else self.heat_maps
        origin = {
            "own_slice": own,
            "backbone": backbone,
            "weights": weights,
            "seed": seed,
            "encoder_checksum": self.embeddings.checksum,
            "positive": maps.positive.tolist(),
            "negative": maps.negative.tolist(),
            "weight": maps.weight,
            "mean": maps.mean,
            "std": maps.std,
        }
        return {"heat_maps": origin}


@dataclass(frozen=True)
class Refiner:
    """A trained network with what makes its heat maps; `encoder` and `heat_maps` are None where it sees none."""

    network: UNet
    details: Mapping
    encoder: Encoder | None
    heat_maps: HeatMaps | None

    @property
    def colour(self) -> bool:
        """Whether it sees red, green and blue, not luminance."""
        return "colour" in self.details["input"]

    def mask(self, pixels: np.ndarray, shape: tuple[int, int], embedding: Embedding | None) -> np.ndarray:
        """The foreground bool `[H, W]` of a micrograph uint8 `[H, W]` or `[H, W, 3]`, which it sees at `shape`."""
        heat = None
        if self.heat_maps is not None:
            assert embedding is not None
            heat = self.heat_maps(embedding)
        rule = self.details["mask_threshold"], self.details["percent"]
        image = unet_input(self.details["input"], pixels, shape, heat, *rule)
        return resize_to(probabilities(self.network, image), pixels.shape[:2]) > self.details["threshold"]

    def extraction(self, **others: Any) -> ExtractionOptions:
        """How micrographs are embedded for it, with what else an extraction is told."""
        names = ("layer", "scale", "size", "pixel_size_nm", "percentiles")
        later = {name: self.details.get(name, False) for name in ("plain_percentiles", "square")}
        return ExtractionOptions(**{name: self.details[name] for name in names}, **{**later, **others})


def load_refiner(folder: str | Path, backbone: str = "", weights: str = "") -> Refiner:
    """The network in `folder`, `runs/<name>/fold-<n>`, in evaluation mode on the GPU where there is one.

    Args:
        backbone, weights: where the backbone is now, if it has moved.

    Raises:
        InputError: for a folder without a model, and for another backbone than its heat maps were made with.
    """
    folder = Path(folder)
    details = read_details(folder, "a finished fold, such as runs/unet/fold-0")
    encoder, heat_maps = None, None
    own_slice, layer, seed, checksum = False, 0, 0, ""
    try:
        channels = input_channels(details["input"])
        width, levels = details["width"], details.get("levels", 2)
        if maps := details.get("heat_maps"):
            own_slice = maps.get("own_slice", False)
            backbone, weights = backbone or maps["backbone"], weights or ("" if backbone else maps["weights"])
            positive, negative = (np.array(maps[side], np.float32) for side in ("positive", "negative"))
            heat_maps = HeatMaps(positive, negative, maps["weight"], maps["mean"], maps["std"])
            layer, seed, checksum = details["layer"], maps["seed"], maps["encoder_checksum"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / DETAILS} describes no refined U-Net ({error}): train it again") from error
    if heat_maps is not None and own_slice:
        raise InputError(
            f"{folder} needs points on every micrograph, for heat=own_slice made its maps: train it without"
        )
    if heat_maps is not None:
        encoder = open_encoder(backbone, weights, layer, seed)
        if encoder.checksum != checksum:
            raise InputError(f"{folder} was trained with another backbone than {encoder.name}: give that one")
    check_numbers({"width": width, "levels": levels}, folder / DETAILS)
    network = build_fitting(lambda: UNet(channels, width, levels), folder / WEIGHTS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device).to(memory_format=torch.channels_last)
    return Refiner(network.eval(), details, encoder, heat_maps)


FOLDERS = {"samples": "predictions", "heat_map": "heat_map"}  # where the masks of either side of the scores lie


def choose_cut(
    network: UNet, inputs: RefinerInputs, fold: Fold, cuts: Sequence[float], share: Share = one_by_one
) -> float:
    """The one of `cuts` of the probability that is best on the stopping micrographs, which the processes share."""

    def score_cuts(index: int) -> list[float]:
        return dice_of_cuts(*inputs.prediction(network, index), cuts)

    return best_cut(share(fold.stopping, score_cuts, "choosing a threshold"), cuts)


def score_fold(
    network: UNet, cut: float, inputs: RefinerInputs, fold: Fold, folder: Path, share: Share = one_by_one
) -> dict:
    """Score the held-out micrographs' masks, the network's and those of the heat maps alone, and write both.

    Args:
        cut: px of a higher probability are foreground.
        folder: takes `predictions/<name>.png` and, where there are heat maps, `heat_map/<name>.png`.
        share: by which processes the micrographs are scored.

    Returns:
        `threshold`, which is the cut; the names of the micrographs in `fitted` and `stopping`; and by name the scores
        `dice`, `iou` and `hd95_px` of the network's masks, as `samples`, and of the heat maps' own, as `heat_map`.
    """

    def score_masks(index: int) -> dict[str, dict[str, float]]:
        image, true = inputs.prediction(network, index)
        masks = {"samples": image > cut, "heat_map": inputs.heat_mask(index, true.shape)}
        scores = {}
        for side, mask in masks.items():
            if mask is not None:
                write_mask_png(folder / FOLDERS[side] / f"{inputs.labelled.names[index]}.png", mask)
                of_mask = {"dice": dice(true, mask), "iou": iou(true, mask), "hd95_px": hd95(true, mask)}
                scores[side] = {name: float(value) for name, value in of_mask.items()}
        return scores

    results = share(fold.held_out, score_masks, "scoring")
    held_out = [inputs.labelled.names[index] for index in fold.held_out]
    sides = {
        side: {name: scores[side] for name, scores in zip(held_out, results, strict=True) if side in scores}
        for side in FOLDERS
    }
    training = {"fitted": fold.fitted, "stopping": fold.stopping}
    names = {side: [inputs.labelled.names[index] for index in indices] for side, indices in training.items()}
    return {"threshold": cut, **names, **sides}


def summarise_folds(repeats: Sequence[Mapping[str, Mapping]], groups: Mapping[str, str] | None = None) -> dict:
    """What a run's `summary.json` says of its repeats.

    Args:
        repeats: of each by the name of each fold what `score_fold` gives; repeats have the same folds.
        groups: the group of each micrograph by its name, if they are to be scored apart.

    Returns:
        Mean `scores`, and `refined` and `heat_map` as `spread_of` gives them, of the `micrographs`; `folds`, the first
        repeat's, and `repeats`. With groups `groups` and `heat_map_groups`, such spreads by group.
    """
    refined, before = (spread_of(repeats, side) for side in FOLDERS)
    held_out = [name for fold in repeats[0].values() for name in fold["samples"]]
    summary = {
        "scores": {name: of["mean"] for name, of in (refined or {}).items()},
        "refined": refined,
        "heat_map": before,
        "micrographs": len(held_out),
        "folds": repeats[0],
        "repeats": repeats,
    }
    if groups:
        members = by_group({name: name for name in held_out}, groups)
        summary["groups"] = {group: spread_of(repeats, "samples", names) for group, names in members.items()}
        summary["heat_map_groups"] = {group: spread_of(repeats, "heat_map", names) for group, names in members.items()}
    return summary


def spread_of(
    repeats: Sequence[Mapping[str, Mapping]], side: str, names: Container[str] | None = None
) -> dict[str, dict[str, float]] | None:
    """Mean and deviations of one side of the scores, over micrographs, or those of `names` alone, and over repeats.

    As `sempre.frozen.prototype_study.spread`; None where there are no scores.
    """
    rows = [
        {"name": name, "draw": repeat, **sample}
        for repeat, scores in enumerate(repeats)
        for fold in scores.values()
        for name, sample in fold[side].items()
        if names is None or name in names
    ]
    return spread(rows, of=("name",))
