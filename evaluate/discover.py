"""What is in a pile of micrographs, without labels or masks: a map, clusters, the strangest images, and where to look.

    python evaluate/discover.py images=store.h5 backbone=runs/fcmae/backbone name=discovery
    python evaluate/discover.py images=FOLDER backbone=dinov2_vits14_pretrain.pth size=448 labels_from=prefix
    python evaluate/discover.py images=store.h5 backbone=dinov2_vits14_pretrain.pth size=224 unit=patches

A frozen backbone gives each micrograph, or each patch of a store, a vector: the mean of its strongest cells, those of
largest L2 norm. `runs/<name>/report.html` holds a map to explore, clusters by several methods, the images farthest from
the bulk and their strongest cells, drawn where they lie; `images.csv` or `patches.csv`, `cells.csv` and `summary.json`
hold the same as numbers, places in px of the file and in nm. Labels, where there are some, are only compared with.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from sempre.config import read_options, save_options
from sempre.data.groups import RuleOrAuto
from sempre.data.sources import FolderSource, PatchSource, StoreSource, open_source
from sempre.errors import InputError
from sempre.files import write_json
from sempre.frozen.clusters import Methods, agreement, centrality, cluster_by_all, cluster_figures
from sempre.frozen.encoder import Encoder, open_encoder
from sempre.frozen.extract import ExtractionOptions, extract, file_percentiles
from sempre.frozen.extract import check as check_extraction
from sempre.frozen.pooling import TOP, MapMethod, bulk_distance, plane, pool_all
from sempre.processes import run_in_one_process
from sempre.ranges import Count, CountOrZero, Numbers, PositiveShare, RunName, Seed
from sempre.report.discovery_page import Images, write_cells, write_discovery_report, write_images


@dataclass(kw_only=True)
class Options(ExtractionOptions):
    images: str = "???"  # store made by data/prepare.py, or a folder of micrographs
    unit: Literal["images", "patches"] = "images"  # patches: those that a store keeps beside its micrographs
    labels_from: RuleOrAuto = "auto"  # source of labels; auto: the store's own, or sub-folder names
    labels_csv: str = ""  # file of rows file,label for labels_from=csv
    backbone: str = "???"  # backbone/ folder, official .pth file, timm's name, random:<timm's name> or intensity
    weights: str = ""  # DINO or DINOv2 file, if backbone= is a name
    name: RunName = "discovery"  # the result goes to runs/<name>
    k: Count = 32  # number of strongest cells that are pooled
    compared_ks: Numbers = field(default_factory=lambda: [8, 16, 32, 64])  # other values of k in the table
    clusters: Count = 8  # number of clusters
    methods: Methods = field(default_factory=lambda: ["kmeans", "agglomerative"])  # clustering methods to compare
    map: MapMethod = "auto"  # map of the images; auto: umap if installed
    bulk: PositiveShare = 0.9  # share of usual images, if the next two options are empty
    bulk_label: str = ""  # or: images with this label are the usual ones
    bulk_images: list[str] = field(default_factory=list)  # or: paths or file names of the usual images
    strangest: Count = 24  # images on the contact sheet
    drawn: Count = 6  # number of strangest and of most typical images drawn with their strongest cells
    thumbnails: CountOrZero = 10000  # number of points of the map that show their image
    seed: Seed = 0  # random seed of clusters and map


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    check(options)
    folder = Path("runs") / options.name
    encoder = open_encoder(options.backbone, options.weights, options.layer, options.seed)
    source = open_images(options, encoder)
    bulk = bulk_of(source, options)
    with extract(source, encoder, options) as embeddings:
        vectors, cells = pool_all(embeddings, source.sha256s, source.names, options.k, options.compared_ks)
    chosen = f"{TOP}{options.k}"

    # Clusters, and what labels there are, for each way of pooling; map and strangeness for the chosen one.
    how = options.clusters, options.methods, options.seed
    clusters = {way: cluster_by_all(values, *how) for way, values in vectors.items()}
    points, map_method = plane(vectors[chosen], options.map, options.seed)
    images = Images(
        source,
        points,
        clusters[chosen],
        bulk_distance(vectors[chosen], bulk),
        {method: centrality(vectors[chosen], numbers) for method, numbers in clusters[chosen].items()},
        cells,
    )
    summary = {
        "images": len(source),
        "unit": options.unit,
        "source": options.images,
        "percentiles": list(source.preparation["percentiles"]),
        "backbone": encoder.name,
        "read_out": encoder.read_out,
        "pooled": chosen,
        "pooling": {
            way: cluster_figures(values, clusters[way], source.labels, options.seed) for way, values in vectors.items()
        },
        "methods_ari": agreement(*list(clusters[chosen].values())[:2])["ari"] if len(options.methods) > 1 else None,
        "map": map_method,
        "bulk": bulk_in_words(bulk, options),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_options(options, folder / "config.yaml")
    write_json(folder / "summary.json", summary)
    write_discovery_report(
        folder / "report.html", summary, images, options.strangest, options.drawn, options.thumbnails
    )
    write_images(folder / f"{options.unit}.csv", images)
    write_cells(folder / "cells.csv", images)
    print(f"{len(source)} {options.unit}: {folder / 'report.html'}")
    return 0


def check(options: Options) -> None:
    check_extraction(options)
    if len(set(options.methods)) < len(options.methods):
        raise InputError(f"methods={options.methods} must name each method once")
    if options.bulk_label and options.bulk_images:
        raise InputError("bulk_label= and bulk_images= both say what is usual: give one of them")


def open_images(options: Options, encoder: Encoder) -> FolderSource | StoreSource:
    """The micrographs, or the patches of their store."""
    percentiles, plain = file_percentiles(options, encoder), options.plain_percentiles
    source = open_source(options.images, percentiles, options.labels_from, options.labels_csv, plain=plain)
    if options.unit == "images":
        return source
    if isinstance(source, FolderSource):
        raise InputError(
            f"unit=patches needs a store, {options.images} is a folder: make one with "
            f"python data/prepare.py images={options.images} store=store.h5"
        )
    return PatchSource(source)


def bulk_of(source: FolderSource | StoreSource, options: Options) -> float | np.ndarray:
    """The share of the images that count as usual, or a mask `[N]` of those named by the options."""
    if options.bulk_label:
        if options.bulk_label not in source.label_names:
            known = ", ".join(source.label_names) or "none: see labels_from"
            raise InputError(f"no image has the label bulk_label={options.bulk_label}: there are {known}")
        return source.labels == source.label_names.index(options.bulk_label)
    if not options.bulk_images:
        return options.bulk
    files = [source.micrograph_name(index) for index in range(len(source))]
    named = {name for file in set(files) for name in (file, Path(file).name)}
    for name in options.bulk_images:
        if name not in named:
            raise InputError(f"bulk_images names {name}, which is not in {options.images}: there is {files[0]}")
    return np.array([file in options.bulk_images or Path(file).name in options.bulk_images for file in files])


def bulk_in_words(bulk: float | np.ndarray, options: Options) -> str:
    if options.bulk_label:
        return f"the {np.count_nonzero(bulk)} {options.unit} labelled {options.bulk_label}"
    if options.bulk_images:
        return f"the {np.count_nonzero(bulk)} {options.unit} that bulk_images names"
    return f"{bulk:.0%} of the {options.unit}, those nearest to the mean of all"


if __name__ == "__main__":
    run_in_one_process(main)
