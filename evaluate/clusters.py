"""Segment without labels by clustering: colour or grey values against backbones, and against networks that saw labels.

    python evaluate/clusters.py images=FOLDER backbones=[runs/dino/backbone] name=masks
    python evaluate/clusters.py images=volume.ims slices=20 backbones=[…] clusters=3 clicks=clicks.json
    python evaluate/clusters.py data=my_set backbones=[runs/dino/backbone,runs/reconstruction/backbone] layer=-2
    python evaluate/clusters.py data=my_set unets=[runs/unet_20,runs/unet_50,runs/unet_100] name=compared

Each micrograph's px, or with patch=8 its patches, are cut into clusters by K-means: by their level alone (the
baseline), and by it and the first principal components of a frozen backbone's cells, seen in tiles. Clusters are
numbered from the darkest to the brightest. Which of them are foreground a rule says, or clicks (as evaluate/click.py
takes them: a click chooses the cluster below it; micrographs without clicks get what most of the others have), or
foreground=[1]. Of a labelled set the held-out micrographs are clustered and scored. `unets` are runs of
finetune/unet.py with protocol=split on the same set.

`runs/<name>/` holds report.html, table.csv and summary.json, and of each method `<method>/masks/` (one channel a
cluster), `clusters/` (label images of the clusters), `foreground/` (0 and 255) and `predictions/` (the instances that a
watershed makes of the foreground).
"""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated

from timm.models.vision_transformer import VisionTransformer

from sempre.config import part_of, read_options, save_options
from sempre.data.folds import divide
from sempre.data.groups import read_groups
from sempre.data.labelled import LabelledSet
from sempre.data.splits import seeded_subset
from sempre.data.volume_slices import open_slices, output_stems
from sempre.errors import InputError
from sempre.files import write_csv, write_json
from sempre.frozen.attention import head_maps
from sempre.frozen.clusters import RULES
from sempre.frozen.encoder import open_encoder
from sempre.frozen.extract import ExtractionOptions, check_percentiles, file_percentiles
from sempre.frozen.extract import check as check_extraction
from sempre.frozen.prototypes import clicked_positions, read_clicks
from sempre.frozen.segmented_set import Arm, Clustering, MicrographSet, cluster_arm, segment_all, unet_arm
from sempre.frozen.tasks import labelled_source
from sempre.frozen.tiles import TileSource
from sempre.images.levels import to_grey
from sempre.processes import run_in_one_process
from sempre.ranges import Count, CountOrZero, Index, Numbers, OneOf, PositiveOrZero, Range, RunName, Seed, Share
from sempre.report.backbone_table import print_table
from sempre.report.cluster_page import AttentionExample, Example, columns, table_rows, write_cluster_report

ATTENTION_SHOWN = 2  # micrographs
MOST_CLUSTERS = 8  # whose every choice is tried, to say what the best one would give
Rule = Annotated[str, OneOf(*RULES)]


@dataclass(kw_only=True)
class Options(ExtractionOptions):
    data: str = ""  # folder of labelled micrographs; or use images=
    images: str = ""  # unlabelled: folder of micrographs, volume, folder of volumes with slices=N, or store
    backbones: list[str] = field(default_factory=list)  # backbone/ folders, .pth files, names as in evaluate/knn.py
    unets: list[str] = field(default_factory=list)  # run folders of finetune/unet.py to compare with
    name: RunName = "clusters"  # the result goes to runs/<name>
    groups: str = ""  # also score groups of data=: magnification, folder, or CSV of rows name,group
    split_file: str = ""  # JSON of "train", "validation", "test" (optional) stems; empty: seeded split
    validation_fraction: Share = 0.2  # share of images that the seeded split holds out
    test_fraction: Share = 0.0  # share of images for the test; same split as in fine-tuning
    split_seed: Seed = 0  # seed of the split; another one holds out other images
    micrographs: CountOrZero = 0  # number of held-out micrographs to draw; 0: all
    slices: CountOrZero = 0  # of images=: evenly spaced slices taken from each volume; 0: all
    channel: Index = 0  # channel of a volume to read; -1: the last
    skip: CountOrZero = 0  # leave out this many first and last slices of a volume
    colour: bool = False  # read micrographs in colour instead of as luminance
    size: CountOrZero = 512  # resize the longer side to this, px; 0: keep the resolution
    tile: Annotated[int, Range(32)] = 320  # cut larger micrographs into tiles of this side, px
    patch: CountOrZero = 0  # cluster the means of squares of this side, px; 0: cluster single px
    clusters: Annotated[int, Range(2, MOST_CLUSTERS)] = 2  # number of clusters in each micrograph
    rule: Rule = "border"  # foreground clusters: those that touch the border less, or bright ones
    clicks: str = ""  # or: JSON file of clicks on foreground and background
    foreground: Numbers = field(default_factory=list)  # or: numbers of the foreground clusters; 1: darkest
    fill_holes: bool = True  # fill holes in the foreground; false for nets of filaments
    components: Count = 20  # principal components kept of a micrograph's cells
    grey_weight: PositiveOrZero = 1.0  # weight of grey value or colour; the first component has 1
    smoothing: PositiveOrZero = 1.0  # standard deviation of the Gaussian that smooths the image, px
    distance: Count = 7  # smallest distance between the centres of two particles, px
    smallest: CountOrZero = 30  # smallest area of an instance, px; smaller ones are dropped
    shown: Count = 6  # number of micrographs in the report
    seed: Seed = 0  # random seed of clusters, weights and drawn micrographs


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    check(options)

    # Each backbone sees levels normalised as in its pretraining.
    @cache
    def micrographs_of(percentiles: tuple[float, float]) -> MicrographSet:
        return open_micrographs(options, percentiles)

    micrographs = micrographs_of(file_percentiles(options, None))
    names = [micrographs.stems[position] for position in micrographs.order]
    unets = [unet_arm(Path(run), micrographs.stems) for run in options.unets]
    folder = Path("runs") / options.name
    folder.mkdir(parents=True, exist_ok=True)
    save_options(options, folder / "config.yaml")
    shown = micrographs.order[: options.shown]
    examples = {
        position: Example(
            micrographs.stems[position], micrographs.tiles.source.read(position)[0], micrographs.true(position)
        )
        for position in shown
    }
    clustering, arms = part_of(options, Clustering), {}

    def run_arm(arm: Arm) -> None:
        out = folder / re.sub(r"[^\w.-]+", "_", arm.name)
        how = options.clusters, options.fill_holes, options.distance, options.smallest
        arms[arm.name], found = segment_all(arm, micrographs, out, *how, kept=shown)
        for position, segmentation in found.items():
            examples[position].masks[arm.name] = segmentation.mask
            examples[position].clusters[arm.name] = segmentation.clusters

    # Clusters of levels, of px and of patches, then of levels and each backbone's cells.
    attention = []
    level = "colour" if options.colour else "grey value"
    sides = {level: 0} | ({f"{level}, patches of {options.patch} px": options.patch} if options.patch else {})
    for name, side in sides.items():
        run_arm(cluster_arm(name, micrographs, clustering, side))
    for name in options.backbones:
        encoder = open_encoder(name, layer=options.layer, seed=options.seed)
        seen = micrographs_of(file_percentiles(options, encoder))
        with seen.tiles.extract(encoder) as embeddings:
            run_arm(cluster_arm(name, seen, clustering, options.patch, embeddings))
        if isinstance(encoder.network, VisionTransformer) and encoder.has_class_token:
            for position in shown[:ATTENTION_SHOWN]:
                pixels, heads = to_grey(seen.tiles.micrograph(position)), head_maps(encoder, seen.tiles, position)
                attention.append(AttentionExample(encoder.name, micrographs.stems[position], pixels, heads))
    for arm in unets:
        run_arm(arm)

    summary = {
        "data": options.data or options.images,
        "labelled": bool(options.data),
        "micrographs": names,
        "clusters": options.clusters,
        "chosen_by": "clicks" if options.clicks else "hand" if options.foreground else options.rule,
        "arms": arms,
    }
    write_json(folder / "summary.json", summary)
    header, rows = ["method", *columns(arms).values()], table_rows(arms)
    write_csv(folder / "table.csv", [dict(zip(header, row, strict=True)) for row in rows])
    write_cluster_report(folder / "report.html", summary, list(examples.values()), attention)
    print_table(header, rows)
    print(folder / "report.html")
    return 0


def check(options: Options) -> None:
    check_extraction(options)
    if bool(options.data) == bool(options.images):
        raise InputError("give data=, a labelled set, or images=, what has no labels; one of them")
    if options.images and (options.unets or options.micrographs or options.groups):
        raise InputError("unets, micrographs= and groups= are of labelled sets: give data=, or leave them away")
    if options.data and (options.slices or options.channel or options.skip):
        raise InputError("slices=, channel= and skip= are of volumes: give images=, or leave them away")
    if options.clicks and options.foreground:
        raise InputError("clicks= and foreground= both choose the clusters: give one")
    if any(number > options.clusters for number in options.foreground):
        raise InputError(f"foreground={options.foreground} are not all clusters: count from 1 to {options.clusters}")
    arms = [*options.backbones, *options.unets]
    if len(set(arms)) < len(arms):
        raise InputError(f"{max(arms, key=arms.count)} is given twice: give each backbone and run once")


def open_micrographs(options: Options, percentiles: tuple[float, float]) -> MicrographSet:
    """What is segmented, the clicked ones first, so that the others can be given what most of these have."""
    labelled, in_set, groups = None, None, {}
    if options.data:
        labelled = LabelledSet(options.data, percentiles=percentiles, components=None, plain=options.plain_percentiles)
        in_set = seeded_subset(divide(labelled, options).held_out, options.micrographs, options.seed)
        groups = read_groups(options.groups, labelled.paths)
        source = labelled_source(labelled, in_set, options.colour)
        stems = [labelled.names[index] for index in in_set]
    else:
        chosen = {"skip": options.skip, "colour": options.colour, "plain": options.plain_percentiles}
        source = open_slices(options.images, options.slices, options.channel, percentiles, **chosen)
        check_percentiles(source, None, options)
        stems = output_stems(source)
    clicks = {}
    if options.clicks:
        clicks = clicked_positions(read_clicks(options.clicks, need_negative=False), source.names, options.clicks)
    order = [*clicks, *(position for position in range(len(source)) if position not in clicks)]
    return MicrographSet(TileSource(source, options, options.tile), order, stems, clicks, labelled, in_set, groups)


if __name__ == "__main__":
    run_in_one_process(main)
