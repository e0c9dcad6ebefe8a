"""Segment a folder of micrographs, a volume or a store from a few clicks, without training.

    python evaluate/click.py images=FOLDER clicks=clicks.json backbone=runs/fcmae/backbone out=clicked
    python evaluate/click.py images=volume.ims channel=1 slices=20 clicks=clicks.json backbone=… out=clicked

`clicks.json` names micrographs and points on them, y and x in px from the upper left corner:
{"steel_03.tif": {"positive": [[120, 340], …], "negative": [[15, 20], …]}}; a slice of a volume is `volume_0012`.

`out` is a labelled set: `images/` and `labels/`, label images that napari and ImageJ open. Correct them and fine-tune:
python finetune/mask_rcnn.py data=clicked. `overlays/` and `heatmaps/` are for looking at; `cvat/annotations.json` is
the same as COCO 1.0, for CVAT. With `prototypes=FILE` the clicked cells are kept, and used again without `clicks=`.

A volume is besides one label volume, `volumes/<name>.ome.tif`, in which instances of neighbouring slices that lie on
each other are one object; `volumes/<name>.csv` holds the objects' volumes and surfaces. With `instances=false` what is
sought is one structure, not many particles, and is measured as a whole. Slices are read one by one.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image
from tqdm import tqdm

from sempre.config import read_options, save_options
from sempre.data.coco import write_coco
from sempre.data.sources import FolderSource, StoreSource
from sempre.data.volume_slices import VolumeSource, open_slices, output_stems
from sempre.deploy.overlay import write_overlay
from sempre.errors import InputError
from sempre.files import whole_or_absent
from sempre.frozen.embedding_file import Embeddings
from sempre.frozen.encoder import open_encoder
from sempre.frozen.extract import ExtractionOptions, extract, file_percentiles
from sempre.frozen.extract import check as check_extraction
from sempre.frozen.prototypes import (
    RULES,
    SIZES,
    SWITCHES,
    Clicks,
    Support,
    clicked_positions,
    load_support,
    prototypes_of,
    read_clicks,
    save_support,
    support_of,
)
from sempre.images import read_labels, write_labels
from sempre.images.volume_objects import label_volume
from sempre.images.write import write_micrograph
from sempre.processes import run_in_one_process
from sempre.ranges import Count, CountOrZero, Index, OneOf, Percent, PositiveOrZero, Seed, Share
from sempre.report.prototype_page import draw_heat_map
from sempre.segmentation.watershed import split_touching


@dataclass(kw_only=True)
class Options(ExtractionOptions):
    images: str = "???"  # folder of micrographs, a volume, a folder of volumes with slices=N, or a store
    out: str = "???"  # folder for the resulting labelled set
    backbone: str = "???"  # backbone/ folder, official .pth file, timm's name, random:<timm's name> or intensity
    weights: str = ""  # DINO or DINOv2 file, if backbone= is a name
    clicks: str = ""  # JSON file of clicks
    prototypes: str = ""  # file of clicked cells; written if there are clicks, else read
    count: Count = 1  # number of positive prototypes, and of negative ones
    weight: PositiveOrZero = 0.8  # weight of negative prototypes
    threshold: Annotated[str, OneOf(*RULES)] = "otsu"  # threshold of a micrograph's map
    percent: Percent = 10.0  # share of a micrograph that threshold=top takes, %
    instances: bool = True  # split touching particles; false: one structure, such as bone
    distance: Count = 7  # smallest distance between the centres of two instances, px
    smallest: CountOrZero = 30  # smallest area of an instance, px; smaller ones are dropped
    slices: CountOrZero = 0  # evenly spaced slices taken from each volume; 0: all
    channel: Index = 0  # channel of a volume to read; -1: the last
    skip: CountOrZero = 0  # leave out this many first and last slices of a volume
    least_iou: Share = 0.25  # smallest IoU that joins instances of neighbouring slices
    slice_distance_nm: PositiveOrZero = 0.0  # distance between slices of a volume, nm; 0: from its file
    seed: Seed = 0  # random seed of several prototypes and of random weights


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    out = Path(options.out)
    check(options, out)
    need_negative = options.weight > 0 or options.threshold == "clicks"
    clicks = read_clicks(options.clicks, need_negative) if options.clicks else {}
    encoder = open_encoder(options.backbone, options.weights, options.layer, options.seed)
    percentiles = file_percentiles(options, encoder)
    source = open_slices(
        options.images,
        options.slices,
        options.channel,
        percentiles,
        skip=options.skip,
        plain=options.plain_percentiles,
    )
    stems = output_stems(source)
    clicked = clicked_positions(clicks, source.names, options.clicks)
    settings = {"encoder_checksum": encoder.checksum, "percentiles": list(source.preparation["percentiles"])}
    settings |= {name: getattr(options, name) for name in (*SIZES, *SWITCHES)}
    support = None if clicks else load_support(options.prototypes, settings)
    with extract(source, encoder, options) as embeddings:
        if support is None:
            support = clicked_support(clicked, source, embeddings)
            if options.prototypes:
                save_support(options.prototypes, support, settings)
        model = prototypes_of(support, options.count, options.weight, options.seed)
        for folder in ("images", "labels", "overlays", "heatmaps", "cvat"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        save_options(options, out / "config.yaml")
        instances = 0
        for index, stem in enumerate(tqdm(stems, desc="segmenting", unit="image")):
            heat_map = model.heat_map(embeddings[source.sha256s[index]])
            mask = model.mask(heat_map, options.threshold, options.percent)
            labels = split_touching(mask, options.distance, options.smallest) if options.instances else mask.astype(int)
            pixels, pixel_size_nm = source.read(index)
            write_image(source, index, out / "images", stem)
            write_labels(out / f"labels/{stem}.tif", labels)
            write_overlay(out / f"overlays/{stem}.png", pixels, labels, pixel_size_nm)
            with whole_or_absent(out / f"heatmaps/{stem}.png") as partial:
                Image.fromarray(draw_heat_map(pixels, heat_map)).save(partial, format="PNG")
            instances += len(np.unique(labels[labels > 0]))
    names = {file.stem: file.name for file in (out / "images").iterdir()}
    labelled = ((names[stem], read_labels(out / f"labels/{stem}.tif")) for stem in stems)
    write_coco(out / "cvat/annotations.json", labelled)
    if isinstance(source, VolumeSource):
        for volume, indices in source.volumes():
            positions = [source.slice_of(index)[1] for index in indices]
            files = [out / f"labels/{stems[index]}.tif" for index in indices]
            distance_nm = options.slice_distance_nm or volume.slice_distance_nm
            least_iou = options.least_iou if options.instances else None
            print(label_volume(volume, positions, files, out / "volumes", distance_nm, options.skip, least_iou))
    print(f"{instances} instances on {len(source)} micrographs: look at {out / 'overlays'}, correct {out / 'labels'}")
    return 0


def check(options: Options, out: Path) -> None:
    check_extraction(options)
    if not options.clicks and not options.prototypes:
        raise InputError("nothing says what is sought: give clicks=FILE, or prototypes=FILE of earlier clicks")
    if any((out / "labels").glob("*")):
        raise InputError(f"{out}/labels holds labels, perhaps corrected ones: give another out=")


def clicked_support(
    clicked: Mapping[int, Clicks], source: FolderSource | StoreSource | VolumeSource, embeddings: Embeddings
) -> Support:
    """The cells at all clicks."""
    supports = []
    for index, points in clicked.items():
        try:
            supports.append(support_of(embeddings[source.sha256s[index]], points))
        except InputError as error:
            raise InputError(f"{source.names[index]}: {error}") from None
    return Support(*(np.concatenate([getattr(one, side) for one in supports]) for side in ("positive", "negative")))


def write_image(source: FolderSource | StoreSource | VolumeSource, index: int, folder: Path, stem: str) -> None:
    """A copy of the micrograph's file; what is no file of its own is written as it was embedded."""
    if isinstance(source, FolderSource):
        with whole_or_absent(folder / f"{stem}{source.files[index].suffix}") as partial:
            shutil.copyfile(source.files[index], partial)
    else:
        write_micrograph(folder / f"{stem}.tif", *source.read(index))


if __name__ == "__main__":
    run_in_one_process(main)
