"""How well a few points segment: prototypes of a frozen backbone's cells, evaluated on a labelled set.

    python evaluate/prototypes.py data=my_set backbone=runs/fcmae/backbone name=prototypes
    python evaluate/prototypes.py data=volumes slices=10 channel=1 backbone=dinov2_vits14_pretrain.pth size=448
    python evaluate/prototypes.py data=ims slices=100 skip=40 channel=-2 label_channel=-1 backbone=… size=980

Points are sampled on training micrographs, well inside and well outside the instances. Held-out micrographs become heat
maps, `max cosine to a positive prototype - weight * max cosine to a negative one`, masks and instances. Takes the same
split as finetune/mask_rcnn.py and writes the same `predictions/` and `summary.json`, which holds besides: Dice, IoU
and HD95 of each threshold, how they depend on the number of points and on the share that is taken, and how well
prototypes of one micrograph do on others. `report.html` shows it.

With `slices` each file is a volume and each of its slices a micrograph; neighbours are alike, so hold whole volumes out
with `split_file`. The slices stay in `runs/<name>/slices`, a labelled set like any other.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sempre.config import read_options, save_options
from sempre.data.groups import read_groups
from sempre.data.volume_slices import SliceOptions, open_labelled
from sempre.errors import InputError
from sempre.files import write_csv, write_json
from sempre.frozen.encoder import open_encoder
from sempre.frozen.extract import check as check_extraction
from sempre.frozen.extract import extract, file_percentiles
from sempre.frozen.pooling import MapMethod
from sempre.frozen.prototype_study import (
    Micrographs,
    PrototypeOptions,
    deal,
    means,
    model_of,
    percent_sensitivity,
    point_sensitivity,
    rule_scores,
    transfer,
)
from sempre.frozen.prototypes import RULES, Prototypes
from sempre.frozen.separability import token_planes
from sempre.frozen.tasks import labelled_source
from sempre.images import read_labels
from sempre.images.volume import evenly_spaced
from sempre.metrics import by_group
from sempre.processes import run_in_one_process
from sempre.ranges import Count, CountOrZero, RunName, Seed, Share
from sempre.report.prototype_page import Example, write_prototype_report
from sempre.segmentation.watershed import split_touching
from sempre.training.scoring import Prediction, predict_and_score, summarise_run

SHOWN = 8  # held-out micrographs in the report


@dataclass(kw_only=True)
class Options(PrototypeOptions, SliceOptions):
    data: str = "???"  # folder of labelled micrographs, or of labelled volumes with slices=N
    backbone: str = "???"  # backbone/ folder, official .pth file, timm's name, random:<timm's name> or intensity
    weights: str = ""  # DINO or DINOv2 file, if backbone= is a name
    name: RunName = "prototypes"  # the result goes to runs/<name>
    groups: str = ""  # also score groups: magnification, folder, or a CSV file of rows name,group
    transfer: Count = 16  # largest number of micrographs in the transfer matrix
    distance: Count = 7  # smallest distance between the centres of two instances, px
    smallest: CountOrZero = 30  # smallest area of an instance, px; smaller ones are dropped
    map: MapMethod = "auto"  # second map of the cells, beside PCA; auto: umap if installed
    split_file: str = ""  # JSON of "train", "validation", "test" (optional) stems; empty: seeded split
    validation_fraction: Share = 0.2  # share of images that the seeded split holds out
    test_fraction: Share = 0.0  # share of images for the test; same split as in fine-tuning
    split_seed: Seed = 0  # seed of the split; another one holds out other images


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    check(options)
    folder = Path("runs") / options.name
    encoder = open_encoder(options.backbone, options.weights, options.layer, options.seed)
    percentiles = file_percentiles(options, encoder)
    labelled = open_labelled(options.data, folder / "slices", options, percentiles, options.plain_percentiles)
    train, validation = labelled.split(
        options.validation_fraction, options.split_seed, options.split_file or None, options.test_fraction
    )
    if not len(train) or not len(validation):
        raise InputError(f"{options.data} leaves {len(train)} micrographs for points and {len(validation)} to score")
    groups = read_groups(options.groups, labelled.paths)
    used = np.union1d(train, validation)
    folder.mkdir(parents=True, exist_ok=True)
    save_options(options, folder / "config.yaml")
    with extract(labelled_source(labelled, used), encoder, options) as embeddings:
        micrographs = Micrographs(labelled, embeddings, used)
        supports = [micrographs.support(index, options) for index in tqdm(train, desc="sampling points", unit="image")]
        model = model_of(deal(supports, options.points, options.seed), options)
        scores = score_instances(micrographs, validation, model, options, folder / "repeat-0/predictions")
        rows = [
            row
            for index in tqdm(validation, desc="thresholds", unit="image")
            for row in rule_scores(micrographs, index, model, options.percent)
        ]
        summary = {
            "data": options.data,
            "backbone": encoder.name,
            "cell": encoder.cell,
            "train": len(train),
            "validation": len(validation),
            "points_used": len(model.at_positive),
            "threshold": options.threshold,
            "masks": {rule: means([row for row in rows if row["rule"] == rule]) for rule in RULES},
            "percent": percent_sensitivity(micrographs, validation, model),
            "points": point_sensitivity(micrographs, validation, supports, options),
            "transfer": transfer(micrographs, options, options.transfer),
            **summarise_run([scores], groups),
        }
        if groups:
            members = by_group({row["name"]: row for row in rows if row["rule"] == options.threshold}, groups)
            summary["mask_groups"] = {group: means(list(of_group.values())) for group, of_group in members.items()}
        shown = validation[evenly_spaced(len(validation), min(SHOWN, len(validation)))]
        tokens = token_planes(micrographs, validation, model, options.map, options.seed)
        examples = [example(micrographs, index, model, scores, folder) for index in shown]
    write_json(folder / "repeat-0/summary.json", scores)
    write_json(folder / "summary.json", summary)
    write_csv(folder / "scores.csv", rows)
    write_prototype_report(folder / "report.html", summary, examples, tokens)
    best = max(RULES, key=lambda rule: summary["masks"][rule]["dice"])
    print(
        f"Dice {summary['masks'][options.threshold]['dice']:.3f} by {options.threshold} (best: {best} "
        f"{summary['masks'][best]['dice']:.3f}), AJI+ {scores['summary']['aji_plus']:.3f} on {len(validation)} "
        f"micrographs: {folder / 'report.html'}"
    )
    return 0


def check(options: Options) -> None:
    check_extraction(options)


def score_instances(
    micrographs: Micrographs, validation: np.ndarray, model: Prototypes, options: Options, folder: Path
) -> dict:
    """Instances of the held-out micrographs, written and scored as those of any other method."""

    def segment(_: np.ndarray, index: int) -> Prediction:
        heat_map = model.heat_map(micrographs.embedding(index))
        mask = model.mask(heat_map, options.threshold, options.percent)
        return Prediction(split_touching(mask, options.distance, options.smallest))

    return predict_and_score(micrographs.labelled, validation, segment, folder)


def example(micrographs: Micrographs, index: int, model: Prototypes, scores: dict, folder: Path) -> Example:
    """A held-out micrograph for the report."""
    name, micrograph = micrographs.labelled.names[index], micrographs.labelled.read(index)
    return Example(
        name,
        micrograph.pixels,
        micrograph.layers.max(axis=0),
        model.heat_map(micrographs.embedding(index)),
        read_labels(folder / "repeat-0/predictions" / f"{name}.tif"),
        f"instances: AJI+ {scores['samples'][name]['aji_plus']:.2f}",
    )


if __name__ == "__main__":
    run_in_one_process(main)
