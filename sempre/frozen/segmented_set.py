"""Many micrographs segmented by methods that are compared: what is written, and what they score."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from sempre.config import saved_options
from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.files import read_json
from sempre.frozen.clusters import (
    best_iou,
    chosen_by_clicks,
    chosen_by_rule,
    cluster_image,
    foreground,
    level_features,
    most_chosen,
    patches_to_pixels,
    ranked,
    token_features,
)
from sempre.frozen.embedding_file import Embeddings
from sempre.frozen.prototypes import Clicks
from sempre.frozen.tiles import TileSource
from sempre.images import write_labels
from sempre.images.levels import to_grey
from sempre.images.resize import pick_at_centres
from sempre.images.write import write_channels
from sempre.metrics import by_group, dice, hd95, iou
from sempre.segmentation.watershed import split_touching
from sempre.training.scoring import Prediction, predict_and_score


@dataclass(frozen=True)
class Segmentation:
    """A micrograph's `mask` bool `[H, W]`; and of a clustering the clusters int64 `[H, W]` and the chosen ones."""

    mask: np.ndarray
    clusters: np.ndarray | None = None
    chosen: tuple[int, ...] = ()


def write_segmentation(out: Path, name: str, found: Segmentation, clusters: int) -> None:
    """Write the foreground and, of a clustering, the clusters as one channel each and as a label image from 1 on."""
    for kind in ("foreground", *(("masks", "clusters") if found.clusters is not None else ())):
        (out / kind).mkdir(parents=True, exist_ok=True)
    write_labels(out / f"foreground/{name}.tif", 255 * found.mask)
    if found.clusters is not None:
        channels = found.clusters == np.arange(clusters)[:, None, None]
        write_channels(out / f"masks/{name}.tif", channels.astype(np.uint8) * 255)
        write_labels(out / f"clusters/{name}.tif", found.clusters + 1)


def describe(found: Segmentation, true: np.ndarray | None, fill_holes: bool) -> dict:
    """The foreground's share, which clusters it is, and where there is a true mask the scores against it.

    Args:
        true: bool `[H, W]`; None without labels.
        fill_holes: of every foreground that `best_iou` tries.
    """
    sample: dict[str, Any] = {"foreground_share": float(found.mask.mean())}
    if found.clusters is not None:
        sample["chosen"] = [int(name) + 1 for name in found.chosen]
    if true is None:
        return sample
    sample |= {"iou": iou(true, found.mask), "dice": dice(true, found.mask), "hd95_px": hd95(true, found.mask)}
    if found.clusters is not None:
        sample["best_iou"] = best_iou(found.clusters, true, fill_holes)
    return sample


def mean_figures(samples: Mapping[str, Mapping], figures: Sequence[str]) -> dict[str, float]:
    """The mean of each of `figures` over the samples."""
    return {figure: float(np.mean([sample[figure] for sample in samples.values()])) for figure in figures}


@dataclass(frozen=True)
class MicrographSet:
    """What is segmented: the micrographs of `tiles`, by their positions there, in this order.

    `stems` are their names and `clicks` those on some of them. Of a labelled set `in_set` are their positions in it,
    and `groups`, by name, the groups that are scored apart.
    """

    tiles: TileSource
    order: list[int]
    stems: list[str]
    clicks: dict[int, Clicks]
    labelled: LabelledSet | None = None
    in_set: np.ndarray | None = None
    groups: dict[str, str] = field(default_factory=dict)

    def true(self, position: int) -> np.ndarray | None:
        """The true mask, bool `[H, W]`, where there are labels."""
        if self.labelled is None or self.in_set is None:
            return None
        return self.labelled.read(self.in_set[position]).foreground


@dataclass(frozen=True)
class Arm:
    """A method: `segment` gives the segmentation of the micrograph at a position, in the set's order.

    It has learnt from so many `labelled_micrographs`.
    """

    name: str
    labelled_micrographs: int
    segment: Callable[[int], Segmentation]


def segment_all(
    arm: Arm,
    micrographs: MicrographSet,
    out: Path,
    clusters: int,
    fill_holes: bool,
    distance: int,
    smallest: int,
    kept: Collection[int] = (),
) -> tuple[dict, dict[int, Segmentation]]:
    """Segment the micrographs one by one, write what is found, and score it where there are labels.

    Args:
        out: a folder; instances go to its `predictions/`, the rest where `write_segmentation` puts it.
        clusters: of each micrograph.
        fill_holes: of every foreground that is tried for the best one.
        distance: smallest distance between two instances' centres, px.
        smallest: instances of fewer px are dropped.
        kept: positions of micrographs whose segmentations are given back, too.

    Returns:
        `labelled_micrographs`, the means of all figures, and `samples`, by name the figures of each micrograph; with
        groups such means by group, as `groups`. And the segmentations kept, by position.
    """
    samples: dict[str, dict] = {}
    segmentations = {}

    def predict(position: int) -> Prediction:
        name, found = micrographs.stems[position], arm.segment(position)
        write_segmentation(out, name, found, clusters)
        samples[name] = describe(found, micrographs.true(position), fill_holes)
        if position in kept:
            segmentations[position] = found
        return Prediction(split_touching(found.mask, distance, smallest))

    instances: dict[str, dict] = {"summary": {}, "samples": {}}
    if micrographs.labelled is not None and micrographs.in_set is not None:
        position_of = {int(micrographs.in_set[position]): position for position in micrographs.order}
        instances = predict_and_score(
            micrographs.labelled, position_of, lambda _, index: predict(position_of[index]), out / "predictions"
        )
    else:
        (out / "predictions").mkdir(parents=True, exist_ok=True)
        for position in tqdm(micrographs.order, desc=f"clusters of {arm.name}", unit="image"):
            write_labels(out / f"predictions/{micrographs.stems[position]}.tif", predict(position).labels)
    figures = [name for name, value in next(iter(samples.values())).items() if isinstance(value, float)]
    samples = {name: sample | instances["samples"].get(name, {}) for name, sample in samples.items()}
    scores = {"labelled_micrographs": arm.labelled_micrographs}
    result = scores | mean_figures(samples, figures) | instances["summary"] | {"samples": samples}
    if micrographs.groups:
        members = by_group(samples, micrographs.groups)
        figures = [*figures, "aji_plus"]
        result["groups"] = {group: scores | mean_figures(of_it, figures) for group, of_it in members.items()}
    return result, segmentations


@dataclass(frozen=True)
class Clustering:
    """How micrographs are cut into clusters and which of these are foreground: of the options of
    `evaluate/clusters.py` those of the same names."""

    clusters: int
    rule: str
    foreground: list[int]
    fill_holes: bool
    components: int
    grey_weight: float
    smoothing: float
    seed: int


def cluster_arm(
    name: str, micrographs: MicrographSet, how: Clustering, side: int, embeddings: Embeddings | None = None
) -> Arm:
    """Clusters of levels, and of a backbone's cells where there are `embeddings`: of squares of `side` px, or of px.

    Foreground are the clusters of the numbers given; else those that a micrograph's clicks choose; else, for one
    without clicks, what most of the clicked ones before it have; else what the rule says.
    """
    tiles = micrographs.tiles
    choices: list[list[int]] = []  # of the clicked micrographs, which come first

    def segment(position: int) -> Segmentation:
        pixels = tiles.micrograph(position)
        grey, shape = to_grey(pixels), tiles.shapes[position]
        if embeddings is None:
            features = level_features(pixels, how.smoothing, side)
        else:
            weights = how.components, how.grey_weight, how.smoothing
            features = token_features(tiles, embeddings, position, *weights, side)
        clusters = cluster_image(features, how.clusters, how.seed)
        if side:
            clusters = patches_to_pixels(clusters, side, grey.shape)
        clusters = ranked(clusters, grey)
        whole = pick_at_centres(clusters, shape)
        if how.foreground:
            chosen = [number - 1 for number in how.foreground]
        elif position in micrographs.clicks:
            chosen = clicked_clusters(whole, micrographs, position)
            choices.append(chosen)
        elif choices:
            chosen = most_chosen(choices)
        else:
            chosen = chosen_by_rule(clusters, grey, how.rule)
        mask = pick_at_centres(foreground(clusters, chosen, how.fill_holes), shape)
        return Segmentation(mask, whole, tuple(chosen))

    return Arm(name, 0, segment)


def clicked_clusters(clusters: np.ndarray, micrographs: MicrographSet, position: int) -> list[int]:
    """The clusters of `clusters` `[H, W]` that the clicks on the micrograph choose.

    Raises:
        InputError: for a click outside, with the micrograph's name.
    """
    try:
        return chosen_by_clicks(clusters, micrographs.clicks[position])
    except InputError as error:
        raise InputError(f"{micrographs.stems[position]}: {error}") from None


def unet_arm(run: Path, names: Sequence[str]) -> Arm:
    """The masks that a run of finetune/unet.py predicts of the micrographs with these names, by their positions.

    Raises:
        InputError: when the run has not finished, was not trained on one split, or did not hold all of these out.
    """
    if not (run / "summary.json").is_file() or not (run / "config.yaml").is_file():
        raise InputError(f"{run} is no finished run: give runs of finetune/unet.py")
    if saved_options(run / "config.yaml").get("protocol") != "split":
        raise InputError(f"{run} is no run of finetune/unet.py with protocol=split: make one to compare with")
    (fold,) = read_json(run / "summary.json")["folds"].values()
    for name in names:
        if name not in fold["samples"]:
            raise InputError(f"{run} did not hold out {name}: train it on the same data= and split")

    def segment(position: int) -> Segmentation:
        mask = np.asarray(Image.open(run / f"fold-0/predictions/{names[position]}.png")) > 0
        return Segmentation(mask)

    return Arm(f"U-Net {run.name}", len(fold["fitted"]) + len(fold["stopping"]), segment)
