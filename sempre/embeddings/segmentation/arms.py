"""Methods that are compared on the same micrographs: clusters of levels and cells, and U-Nets that saw labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sempre.config import saved_options
from sempre.embeddings.encoding.embedding_file import Embeddings
from sempre.embeddings.segmentation.clusters import cluster_image
from sempre.embeddings.segmentation.foreground import (
    chosen_by_clicks,
    chosen_by_rule,
    foreground,
    most_chosen,
    ranked,
)
from sempre.embeddings.segmentation.pixel_features import level_features, patches_to_pixels, token_features
from sempre.embeddings.segmentation.segmented import Segmentation
from sempre.embeddings.segmentation.segmented_set import Arm, MicrographSet
from sempre.errors import InputError
from sempre.files import read_json
from sempre.images.reading.formats.levels import to_grey
from sempre.images.resize import pick_at_centres


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
