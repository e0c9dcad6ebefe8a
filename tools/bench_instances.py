"""How instances are told apart: watershed of the depth, flows, star distances or offsets, from one network's maps.

    python tools/bench_instances.py data=my_set backbone=runs/spark/backbone label_count=30

One network learns what all four need, from the same crops in the same steps: foreground and depth (sempre's own), flows
(Stringer et al., "Cellpose", Nature Methods 2021; of a Poisson potential, which needs no steps of diffusion), distances
to the outline in 32 directions (Schmidt et al., "StarDist", MICCAI 2018), and offsets to the instance's centre (after
Neven et al., CVPR 2019). Each makes instances of the held-out micrographs, at the scale that `sempre segment` chooses
and with thresholds chosen on micrographs that were not fitted to. A row a seed; `runs/bench_instances.csv` holds them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
import torch
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve
from skimage.draw import polygon
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from sempre.config import read_options
from sempre.data.dense_crops import DenseCrops
from sempre.data.detection_crops import DetectionCrops
from sempre.data.folds import parts_of_training
from sempre.data.labelled import LabelledSet
from sempre.data.samplers import EpochSampler
from sempre.errors import run_command
from sempre.files import write_csv
from sempre.images.resize import resize
from sempre.metrics import aji_plus, with_spread
from sempre.models.backbones import load_backbone_weights, percentiles_of
from sempre.models.dense import DenseOptions, DenseSegmenter, dense_losses
from sempre.ranges import Count, CountOrZero, PositiveOrZero
from sempre.segmentation.decode import Decoding, decode
from sempre.segmentation.maps import MULTIPLE, STRIDE, DenseSettings, enlarge, supported_maps
from sempre.training.optimisation import bias_corrected, cosine_with_warmup, estimate_statistics
from sempre.training.scoring import true_overlap

RAYS = 32  # directions of the star distances
CHANNELS = {"dense": 3, "flow": 2, "star": RAYS, "offset": 2}
UNIT = 16.0  # px of the maps that distances and offsets are measured in, so that they are near 1
FLOW_STEPS = 200  # px of the maps that a pixel can flow


@dataclass
class Options:
    data: str = "???"  # folder of labelled micrographs
    backbone: str = "none"  # backbone folder of pretrain/spark.py, or none
    label_count: CountOrZero = 0  # use only this many training micrographs; 0: all
    seeds: Count = 3  # number of trainings
    crops: Count = 6000  # crops in one training
    batch: Count = 8  # crops in one step
    rate: PositiveOrZero = 2e-3  # highest learning rate of AdamW
    workers: CountOrZero = 1  # data-loading processes
    held_out: CountOrZero = 0  # number of held-out micrographs to score; 0: all


class CropsOfAll(DenseCrops):
    """Crops with what each of the four ways learns, at half the resolution.

    Beside the maps of `DenseCrops`: `flow` and `offset` `[2, h, w]`, `star` `[RAYS, h, w]`, and `whole` `[h, w]`, the
    pixels of instances that the crop does not cut, on which alone these three are learnt.
    """

    def item(self, image: np.ndarray, labels: np.ndarray, depths: np.ndarray) -> dict[str, Tensor]:
        small = labels[::STRIDE, ::STRIDE]
        cut = np.unique(np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]]))
        maps = {"flow": flows(small), "offset": offsets(small), "star": star_distances(small)}
        maps["whole"] = (small > 0) & ~np.isin(small, cut)
        return {**super().item(image, labels, depths), **{name: torch.from_numpy(map_) for name, map_ in maps.items()}}


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    labelled = LabelledSet(options.data, percentiles=percentiles_of(options.backbone))
    training, held_out = labelled.split(0.2, 0)
    held_out = held_out[: options.held_out or None]
    rows = []
    for seed in range(options.seeds):
        fitted, choosing = parts_of_training(training, options.label_count, seed)
        network = train(options, seed, labelled, fitted)
        methods = {name: best_thresholds(network, labelled, choosing, grid) for name, grid in METHODS.items()}
        scores = {name: [] for name in methods}
        for index in tqdm(held_out, desc="scoring", unit="image"):
            for name, score in score_all(network, labelled.read(index), methods).items():
                scores[name].append(score)
        rows.append({"seed": seed} | {name: float(np.mean(values)) for name, values in scores.items()})
        print("  ".join(f"{name} {np.mean(values):.3f}" for name, values in scores.items()), flush=True)
        write_csv(Path("runs/bench_instances.csv"), rows)
    for name in METHODS:
        values = [row[name] for row in rows]
        deviation = float(np.std(values, ddof=1)) if len(rows) > 1 else 0
        spread = with_spread({"mean": float(np.mean(values)), "std": deviation})
        print(f"{name:10} AJI+ {spread}")
    return 0


def train(options: Options, seed: int, labelled: LabelledSet, fitted: np.ndarray) -> DenseSegmenter:
    """One network that learns everything, in evaluation mode, with its averaged weights."""
    torch.manual_seed(seed)
    network = DenseSegmenter(DenseOptions())
    if options.backbone != "none":
        load_backbone_weights(network.encoder, options.backbone, "unet_medium")
    network.head = nn.Conv2d(network.head.in_channels, sum(CHANNELS.values()), 1)
    network = network.to(memory_format=torch.channels_last)
    average = AveragedModel(network, multi_avg_fn=bias_corrected(0.998)).requires_grad_(False)
    cut = DetectionCrops(
        labelled,
        fitted,
        size=256,
        seed=seed,
        scale_range=(0.25, 1.5),
        size_range=(10.0, 160.0),
        rotation=20.0,
        pad="reflect",
        depths=True,
    )
    crops = CropsOfAll([cut], [1.0], options.crops, seed)
    loader = DataLoader(crops, batch_sampler=EpochSampler(len(crops), options.batch, seed), num_workers=options.workers)
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=0.02)
    for step, batch in enumerate(tqdm(loader, desc=f"training, seed {seed}")):
        for group in optimizer.param_groups:
            group["lr"] = cosine_with_warmup(step, len(loader), len(loader) // 50, options.rate)
        with torch.autocast("cpu", torch.bfloat16):
            maps = network(batch["image"].contiguous(memory_format=torch.channels_last))
        loss = losses_of_all(maps.float(), batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        average.update_parameters(network)
    images = torch.stack([crops[1, sample]["image"] for sample in range(min(320, len(crops)))])
    estimate_statistics(average.module, images.split(options.batch))
    return cast(DenseSegmenter, average.module)


def losses_of_all(maps: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """The losses of all four ways, the three others each about as large as sempre's own depth loss."""
    dense, flow, star, offset = maps.split(list(CHANNELS.values()), dim=1)
    own = dense_losses(dense, batch["foreground"], batch["depth"], batch["boundary"])["loss"]
    others = []
    for name, given, every in (("flow", flow, 1), ("star", star, 2), ("offset", offset, 1)):
        given, true, whole = (part[..., ::every, ::every] for part in (given, batch[name], batch["whole"][:, None]))
        errors = whole * functional.smooth_l1_loss(given, true, reduction="none")
        others.append(errors.sum() / (whole.sum() * given.shape[1]).clamp(min=1))
    return own + torch.stack(others).sum()


def flows(labels: np.ndarray) -> np.ndarray:
    """Unit vectors `[2, h, w]` towards each instance's middle: up the potential that it fills with and loses at its
    outline. The crop's border is taken for an outline."""
    padded = np.pad(labels, 1)
    inside = np.flatnonzero(padded)
    if not len(inside):
        return np.zeros((2, *labels.shape), np.float32)
    names, number = padded.ravel(), np.full(padded.size, -1)
    number[inside] = np.arange(len(inside))
    pairs = []
    for step in (1, -1, padded.shape[1], -padded.shape[1]):
        same = names[inside + step] == names[inside]
        pairs.append(np.stack([np.flatnonzero(same), number[inside[same] + step]]))
    rows, columns = np.concatenate(pairs, axis=1)
    size = (len(inside), len(inside))
    laplacian = sparse.csc_matrix((-np.ones(len(rows)), (rows, columns)), size) + 4 * sparse.eye(
        len(inside), format="csc"
    )
    potential = np.zeros(padded.size)
    potential[inside] = spsolve(laplacian, np.ones(len(inside)))
    potential = potential.reshape(padded.shape)
    slopes = []
    for axis in (0, 1):
        ahead, behind = (np.where(np.roll(padded, s, axis) == padded, np.roll(potential, s, axis), 0) for s in (-1, 1))
        slopes.append((ahead - behind)[1:-1, 1:-1])
    slopes = np.stack(slopes) * (labels > 0)
    return (slopes / np.maximum(np.hypot(*slopes), 1e-6)).astype(np.float32)


def offsets(labels: np.ndarray) -> np.ndarray:
    """Vectors `[2, h, w]` to the centre of the pixel's instance, in `UNIT`s."""
    names = np.arange(labels.max() + 1)
    places = np.indices(labels.shape, dtype=np.float32)
    counts = np.maximum(np.bincount(labels.ravel(), minlength=len(names)), 1)
    centres = np.stack([ndimage.sum(place, labels, names) / counts for place in places])
    return ((centres[:, labels] - places) / UNIT * (labels > 0)).astype(np.float32)


def directions() -> np.ndarray:
    """Unit vectors (y, x) of the rays, `[RAYS, 2]`."""
    angles = np.arange(RAYS) * 2 * np.pi / RAYS
    return np.stack([np.sin(angles), np.cos(angles)], axis=1)


def star_distances(labels: np.ndarray) -> np.ndarray:
    """How far each instance's pixels are from its outline in `RAYS` directions, in `UNIT`s, `[RAYS, h, w]`; only every
    other row and column is looked at, and the rest is 0."""
    y, x = 2 * np.stack(np.nonzero(labels[::2, ::2]))
    found = np.zeros((RAYS, *labels.shape), np.float32)
    padded = np.pad(labels, 1)
    for ray, (down, right) in enumerate(directions()):
        rows, columns, active = y.astype(float), x.astype(float), np.arange(len(y))
        reached = np.zeros(len(y), np.float32)
        while len(active):
            rows[active] += down
            columns[active] += right
            at = padded[
                np.clip(np.rint(rows[active]).astype(int) + 1, 0, padded.shape[0] - 1),
                np.clip(np.rint(columns[active]).astype(int) + 1, 0, padded.shape[1] - 1),
            ]
            active = active[at == labels[y[active], x[active]]]
            reached[active] += 1
        found[ray, y, x] = (reached + 0.5) / UNIT
    return found


def from_watershed(maps: np.ndarray, foreground: float, marker: float) -> np.ndarray:
    return decode(maps[0], maps[1], Decoding(foreground, marker))


def from_flows(maps: np.ndarray, foreground: float, least: int) -> np.ndarray:
    """Foreground flows for a while; what ends in one place is one instance, if at least `least` px end there."""
    mask = maps[0] > foreground
    flow = maps[3:5] / np.maximum(np.hypot(*maps[3:5]), 1) * mask
    places = np.stack(np.nonzero(mask)).astype(np.float32)
    if not places.size:
        return np.zeros(mask.shape, np.int32)
    most = np.array(mask.shape, np.float32)[:, None] - 1
    for _ in range(FLOW_STEPS):
        step = np.stack([ndimage.map_coordinates(part, places, order=1) for part in flow])
        places = np.clip(places + step, 0, most)
    ends = tuple(np.rint(places).astype(int))
    crowd = np.zeros(mask.shape, int)
    np.add.at(crowd, ends, 1)
    sinks, _ = ndimage.label(ndimage.binary_dilation(crowd > 2, iterations=1), np.ones((3, 3)))
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = sinks[ends]
    sizes = np.bincount(labels.ravel())
    labels[sizes[labels] < least] = 0
    return labels


def from_star(maps: np.ndarray, least: float, overlap: float) -> np.ndarray:
    """Polygons of the deepest pixels first; dropped is one that earlier ones cover by more than `overlap` of it."""
    labels = np.zeros(maps.shape[1:], np.int32)
    y, x = np.nonzero((maps[0] > 0.5) & (maps[1] > least))
    rays = directions()
    for index in np.argsort(-maps[1, y, x], kind="stable"):
        if labels[y[index], x[index]]:
            continue
        reach = np.maximum(maps[5 : 5 + RAYS, y[index], x[index]], 0) * UNIT
        corners = np.array([y[index], x[index]]) + reach[:, None] * rays
        rows, columns = polygon(corners[:, 0], corners[:, 1], labels.shape)
        if not len(rows) or np.mean(labels[rows, columns] > 0) > overlap:
            continue
        free = labels[rows, columns] == 0
        labels[rows[free], columns[free]] = labels.max() + 1
    return labels


def from_offsets(maps: np.ndarray, foreground: float, least: int) -> np.ndarray:
    """Foreground votes for its centre; maxima of the smoothed votes are instances, and pixels go to the nearest one."""
    mask = maps[0] > foreground
    places = np.stack(np.nonzero(mask)).astype(np.float32)
    labels = np.zeros(mask.shape, np.int32)
    if not places.size:
        return labels
    ends = places + maps[5 + RAYS : 7 + RAYS, mask] * UNIT
    rows, columns = (np.clip(np.rint(end), 0, side - 1).astype(int) for end, side in zip(ends, mask.shape, strict=True))
    votes = np.zeros(mask.shape, np.float32)
    np.add.at(votes, (rows, columns), 1)
    votes = ndimage.gaussian_filter(votes, 1.5)
    peaks = (votes == ndimage.maximum_filter(votes, 7)) & (votes > least / 50)
    if not peaks.any():
        return labels
    numbers = ndimage.label(peaks)[0]
    nearest = ndimage.distance_transform_edt(~peaks, return_distances=False, return_indices=True)
    labels[mask] = numbers[tuple(nearest)][rows, columns]
    return labels


# Each way with the thresholds that are tried.
METHODS = {
    "watershed": (from_watershed, list(product((0.4, 0.5, 0.6), (0.4, 0.5, 0.6)))),
    "flows": (from_flows, list(product((0.4, 0.5, 0.6), (4, 10, 20)))),
    "stars": (from_star, list(product((0.4, 0.5, 0.6, 0.7), (0.3, 0.5, 0.7)))),
    "offsets": (from_offsets, list(product((0.4, 0.5, 0.6), (4, 10, 20)))),
}


def best_thresholds(network: DenseSegmenter, labelled: LabelledSet, choosing: np.ndarray, grid: tuple) -> Callable:
    """The way with the thresholds of highest AJI+ on the micrographs `choosing`."""
    way, candidates = grid
    totals = np.zeros(len(candidates))
    for index in choosing:
        micrograph = labelled.read(index)
        maps = maps_of_all(network, micrograph.pixels.astype(np.float32) / 255)
        totals += [score(way(maps, *thresholds), maps, micrograph) for thresholds in candidates]
    first, second = candidates[int(totals.argmax())]
    return lambda maps: way(maps, first, second)


def score_all(network: DenseSegmenter, micrograph, methods: dict[str, Callable]) -> dict[str, float]:
    maps = maps_of_all(network, micrograph.pixels.astype(np.float32) / 255)
    return {name: score(way(maps), maps, micrograph) for name, way in methods.items()}


def score(labels: np.ndarray, maps: np.ndarray, micrograph) -> float:
    found, _ = enlarge(labels, maps[0], micrograph.pixels.shape, Decoding())
    return aji_plus(true_overlap(micrograph, found))


@torch.inference_mode()
def maps_of_all(network: DenseSegmenter, pixels: np.ndarray) -> np.ndarray:
    """All maps `[C, h, w]` of a micrograph at the scale that supports its depth best: probability, depth, flows, …"""
    chosen = supported_maps(pixels, partial(first_maps, network), DenseSettings(tile=4096))
    scale = STRIDE * max(chosen.shape[1:]) / max(pixels.shape)
    scale = min(DenseSettings().scales, key=lambda other: abs(np.log(other / scale)))
    image = resize(pixels, scale)
    used = tuple(-(-side // STRIDE) for side in image.shape)
    image = np.pad(image, [(0, -side % MULTIPLE) for side in image.shape], mode="symmetric")
    with torch.autocast("cpu", torch.bfloat16):
        maps = network(torch.from_numpy(image)[None, None]).float()[0].numpy()
    maps[0] = 1 / (1 + np.exp(-maps[0]))
    return maps[:, : used[0], : used[1]]


def first_maps(network: DenseSegmenter, image: np.ndarray) -> np.ndarray:
    with torch.autocast("cpu", torch.bfloat16):
        maps = network(torch.from_numpy(image)[None, None]).float()[0]
    return torch.stack([maps[0].sigmoid(), maps[1]]).numpy()


if __name__ == "__main__":
    run_command(main)
