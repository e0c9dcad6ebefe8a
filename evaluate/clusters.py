"""Segment without labels by clustering, and compare with networks that have seen some: intensity against backbones.

    python evaluate/clusters.py data=my_set backbones=[runs/dino/backbone,runs/reconstruction/backbone] layer=-2
    python evaluate/clusters.py data=my_set unets=[runs/unet_20,runs/unet_50,runs/unet_100] name=compared

Each held-out micrograph's px are cut into clusters by K-means: by their grey value alone (the baseline), and by it and
the first principal components of a frozen backbone's cells, seen in tiles. A rule chooses the foreground clusters.
`unets` are runs of finetune/unet.py with protocol=split on the same set. `runs/<name>/` holds the table as report.html,
table.csv and summary.json, with pictures; `<method>/predictions/` the instances that a watershed makes of the masks.
"""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from tqdm import tqdm

from sempre.config import read_options, save_options
from sempre.data.labelled import LabelledSet
from sempre.data.predictions import Prediction, predict_and_score
from sempre.data.samples import seeded_subset
from sempre.embeddings.attention import class_attention
from sempre.embeddings.clusters import RULES, best_iou, cluster_image, foreground
from sempre.embeddings.encoder import Encoder, open_encoder
from sempre.embeddings.extract import ExtractionOptions, file_percentiles
from sempre.embeddings.extract import check as check_extraction
from sempre.embeddings.grid import Grid
from sempre.embeddings.pixel_features import grey_features, token_features
from sempre.embeddings.tasks import labelled_source
from sempre.embeddings.tiles import TileSource
from sempre.errors import InputError, run_command
from sempre.files import whole_or_absent, write_json
from sempre.images.watershed import split_touching
from sempre.metrics import dice, hd95, iou
from sempre.report.backbone_table import print_table
from sempre.report.clusters import COLUMNS, AttentionExample, Example, table_rows, write_cluster_report

GREY = "grey value"  # the baseline's name
ATTENTION_SHOWN = 2  # micrographs
MOST_CLUSTERS = 8  # whose every choice is tried, to say what the best one would give


@dataclass(kw_only=True)
class Options(ExtractionOptions):
    data: str = "???"  # folder of labelled micrographs
    backbones: list[str] = field(default_factory=list)  # backbone/ folders, .pth files, names as in evaluate/knn.py
    unets: list[str] = field(default_factory=list)  # run folders of finetune/unet.py to compare with
    name: str = "clusters"  # the result goes to runs/<name>
    split_file: str = ""  # JSON with "train" and "validation" stems; otherwise a seeded split
    validation_fraction: float = 0.2  # share of the images held out by the seeded split
    split_seed: int = 0  # another seed, another split
    micrographs: int = 0  # so many of the held-out ones, drawn; 0 takes all
    size: int = 512  # longer side that micrographs are clustered at, px; 0 keeps their own resolution
    tile: int = 320  # side of the tiles that a backbone sees larger ones in, px
    clusters: int = 2  # of each micrograph
    rule: str = "border"  # foreground clusters: those that touch the border less, or the bright ones
    components: int = 20  # principal components of a micrograph's cells
    grey_weight: float = 1.0  # deviation of the grey value beside them, of which the first has 1
    smoothing: float = 1.0  # deviation of the Gaussian that smooths the grey values, px
    distance: int = 7  # smallest distance between two particles' centres, px
    smallest: int = 30  # instances of fewer px are dropped
    shown: int = 6  # micrographs in the report
    seed: int = 0  # of clusters, random weights and the micrographs that are drawn


@dataclass(frozen=True)
class Arm:
    """A method's masks, bool `[H, W]`, of the micrographs in order; `best_ious` are those of the best clusters."""

    name: str
    labelled_micrographs: int
    masks: list[np.ndarray]
    best_ious: list[float] | None = None


def main() -> None:
    options = read_options(Options)
    check(options)
    labelled = LabelledSet(options.data, percentiles=file_percentiles(options, None))
    _, validation = labelled.split(options.validation_fraction, options.split_seed, options.split_file or None)
    if not len(validation):
        raise InputError(f"no micrograph of {options.data} is held out: raise validation_fraction or add images")
    validation = seeded_subset(validation, options.micrographs, options.seed)
    names = [labelled.names[index] for index in validation]
    true = [labelled.read(index).foreground for index in validation]
    unets = [read_unet(Path(run), names) for run in options.unets]
    folder = Path("runs") / options.name
    folder.mkdir(parents=True, exist_ok=True)
    save_options(options, folder / "config.yaml")

    # Clusters of grey values, then of grey values and each backbone's cells.
    # Each backbone sees grey values normalised as in its pretraining.
    @cache
    def tiles_of(percentiles: tuple[float, float]) -> TileSource:
        seen = LabelledSet(options.data, percentiles=percentiles)
        return TileSource(labelled_source(seen, validation), options, options.tile)

    tiles = tiles_of(labelled.percentiles)
    grey = [grey_features(tiles.micrograph(index), options.smoothing) for index in range(len(validation))]
    arms = [cluster_arm(GREY, grey, true, options)]
    attention = []
    for name in options.backbones:
        encoder = open_encoder(name, layer=options.layer, seed=options.seed)
        tiles = tiles_of(file_percentiles(options, encoder))
        with tiles.extract(encoder) as embeddings:
            features = (
                token_features(tiles, embeddings, index, options.components, options.grey_weight, options.smoothing)
                for index in range(len(validation))
            )
            arms.append(cluster_arm(name, features, true, options))
        if isinstance(encoder.network, VisionTransformer) and encoder.has_class_token:
            attention += [
                show_attention(encoder, names[index], tiles.micrograph(index))
                for index in range(min(ATTENTION_SHOWN, options.shown, len(validation)))
            ]
    arms += unets

    summary = {
        "data": options.data,
        "micrographs": names,
        "clusters": options.clusters,
        "rule": options.rule,
        "arms": {arm.name: score(arm, labelled, validation, true, folder, options) for arm in arms},
    }
    write_json(folder / "summary.json", summary)
    header, rows = ["method", *COLUMNS.values()], table_rows(summary["arms"])
    with whole_or_absent(folder / "table.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    examples = [
        Example(names[k], labelled.read(index).pixels, true[k], {arm.name: arm.masks[k] for arm in arms})
        for k, index in enumerate(validation[: options.shown])
    ]
    write_cluster_report(folder / "report.html", summary, examples, attention)
    print_table(header, rows)
    print(folder / "report.html")


def check(options: Options) -> None:
    check_extraction(options)
    if not 2 <= options.clusters <= MOST_CLUSTERS:
        raise InputError(f"clusters={options.clusters} cannot be told apart: take 2 to {MOST_CLUSTERS}")
    if options.components < 1:
        raise InputError(f"components={options.components} leaves nothing of the cells: take 1 or more")
    if options.rule not in RULES:
        raise InputError(f"rule={options.rule} is unknown: choose {' or '.join(RULES)}")
    arms = [*options.backbones, *options.unets]
    if len(set(arms)) < len(arms):
        raise InputError(f"{max(arms, key=arms.count)} is given twice: give each backbone and run once")


def read_unet(run: Path, names: Sequence[str]) -> Arm:
    """The masks that a run of finetune/unet.py predicts of the micrographs with these names.

    Raises:
        InputError: when the run has not finished, was not trained on one split, or did not hold all of these out.
    """
    if not (run / "summary.json").is_file() or not (run / "config.yaml").is_file():
        raise InputError(f"{run} is no finished run: give runs of finetune/unet.py")
    config = OmegaConf.load(run / "config.yaml")
    if config.get("protocol") != "split":
        raise InputError(f"{run} is no run of finetune/unet.py with protocol=split: make one to compare with")
    (fold,) = json.loads((run / "summary.json").read_text(encoding="utf-8"))["folds"].values()
    for name in names:
        if name not in fold["samples"]:
            raise InputError(f"{run} did not hold out {name}: train it on the same data= and split")
    masks = [np.asarray(Image.open(run / f"fold-0/predictions/{name}.png")) > 0 for name in names]
    return Arm(f"U-Net {run.name}", len(fold["fitted"]) + len(fold["stopping"]), masks)


def cluster_arm(name: str, features: Sequence[np.ndarray], true: Sequence[np.ndarray], options: Options) -> Arm:
    """Masks from the clusters of each micrograph's features `[h, w, D]`, the last of which is the grey value."""
    masks, best = [], []
    for values, mask in zip(tqdm(features, desc=f"clusters of {name}", total=len(true)), true, strict=True):
        clusters = cluster_image(values, options.clusters, options.seed)
        masks.append(enlarge(foreground(clusters, values[..., -1], options.rule), mask.shape))
        best.append(best_iou(enlarge(clusters, mask.shape), mask))
    return Arm(name, 0, masks, best)


def enlarge(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Each px of an image of `shape` with the value `[h, w]` that lies at its centre."""
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(values.shape, shape, strict=True))
    return values[rows[:, None], columns]


def score(
    arm: Arm,
    labelled: LabelledSet,
    validation: np.ndarray,
    true: Sequence[np.ndarray],
    folder: Path,
    options: Options,
) -> dict:
    """Scores of an arm's masks, and of the instances that a watershed makes of them, which it writes."""
    masks = iter(arm.masks)  # they are asked for in the order of the micrographs
    instances = predict_and_score(
        labelled,
        validation,
        lambda _: Prediction(split_touching(next(masks), options.distance, options.smallest)),
        folder / re.sub(r"[^\w.-]+", "_", arm.name) / "predictions",
    )
    samples = {}
    for k, index in enumerate(validation):
        name = labelled.names[index]
        of_mask = {"iou": iou, "dice": dice, "hd95_px": hd95}
        samples[name] = {score: function(true[k], arm.masks[k]) for score, function in of_mask.items()}
        if arm.best_ious is not None:
            samples[name]["best_iou"] = arm.best_ious[k]
    first = next(iter(samples.values()))
    means = {score: float(np.mean([sample[score] for sample in samples.values()])) for score in first}
    samples = {name: of_mask | instances["samples"][name] for name, of_mask in samples.items()}
    return {"labelled_micrographs": arm.labelled_micrographs, **means, **instances["summary"], "samples": samples}


def show_attention(encoder: Encoder, name: str, pixels: np.ndarray) -> AttentionExample:
    """Where each head looks in a whole micrograph, uint8 `[h, w]`."""
    image = torch.from_numpy(pixels)[None, None].to(encoder.device)
    grid = Grid(*pixels.shape, *pixels.shape, encoder.cell)
    heads = [grid.to_pixels(head) for head in class_attention(encoder, image)[0].cpu().numpy()]
    return AttentionExample(encoder.name, name, pixels, np.stack(heads))


if __name__ == "__main__":
    run_command(main)
