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

import numpy as np
import torch
from tqdm import tqdm

from sempre.config import read_options, save_options
from sempre.data.feeding.patch_source import PatchSource
from sempre.data.feeding.sources import FolderSource, StoreSource, open_source
from sempre.embeddings.encoding.embedding_file import Embeddings
from sempre.embeddings.encoding.encoder import Encoder, open_encoder
from sempre.embeddings.encoding.extract import ExtractionOptions, extract, file_percentiles
from sempre.embeddings.encoding.pooling import TOP, pool, strongest
from sempre.embeddings.scores.anomaly import bulk_distance
from sempre.embeddings.scores.maps import plane
from sempre.embeddings.scores.quality import separation
from sempre.embeddings.segmentation.clusters import agreement, cluster, numbered_alike, silhouette
from sempre.errors import InputError, run_command
from sempre.files import write_json
from sempre.pretraining.collapse import rank_me
from sempre.report.pages.discovery import Cells, Images, write_discovery_report
from sempre.report.pages.discovery_tables import write_cells, write_images


@dataclass(kw_only=True)
class Options(ExtractionOptions):
    images: str = "???"  # store made by data/prepare.py, or a folder of micrographs
    unit: str = "images"  # images, or patches: those that a store keeps beside its micrographs
    labels_from: str = "auto"  # none, prefix, folder or csv; auto: a store's own, a folder's subfolders
    labels_csv: str = ""  # file of rows file,label for labels_from=csv
    backbone: str = "???"  # backbone/ folder, official .pth file, timm's name, random:<timm's name> or intensity
    weights: str = ""  # official DINO or DINOv2 file for the architecture that backbone names
    name: str = "discovery"  # the result goes to runs/<name>
    k: int = 32  # the strongest cells that are pooled
    compared_ks: list[int] = field(default_factory=lambda: [8, 16, 32, 64])  # others that the table compares
    clusters: int = 8  # how many
    methods: list[str] = field(default_factory=lambda: ["kmeans", "agglomerative"])  # of clustering, side by side
    map: str = "auto"  # umap, pca, or auto: umap where it is installed
    bulk: float = 0.9  # share of the images that count as usual, where the next two name none
    bulk_label: str = ""  # or: those with this label
    bulk_images: list[str] = field(default_factory=list)  # or: these, by path or file name
    strangest: int = 24  # images on the contact sheet
    drawn: int = 6  # of the strangest and of the most typical images, so many with their strongest cells
    thumbnails: int = 10000  # points of the map that show their image, evenly chosen
    seed: int = 0  # of clusters and map


def main() -> None:
    options = read_options(Options)
    check(options)
    folder = Path("runs") / options.name
    encoder = open_encoder(options.backbone, options.weights, options.layer, options.seed)
    source = open_images(options, encoder)
    bulk = bulk_of(source, options)
    with extract(source, encoder, options) as embeddings:
        vectors, cells = pooled(source, embeddings, options)
    chosen = f"{TOP}{options.k}"

    # Clusters, and what labels there are, for each way of pooling; map and strangeness for the chosen one.
    clusters = {way: cluster_by_all(values, options) for way, values in vectors.items()}
    points, map_method = plane(vectors[chosen], options.map, options.seed)
    images = Images(
        source,
        points,
        clusters[chosen],
        bulk_distance(vectors[chosen], bulk),
        {method: central(vectors[chosen], numbers) for method, numbers in clusters[chosen].items()},
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
            way: describe(values, clusters[way], source.labels, options.seed) for way, values in vectors.items()
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


def check(options: Options) -> None:
    if options.unit not in ("images", "patches"):
        raise InputError(f"unit={options.unit} is unknown: choose images or patches")
    if not options.methods or len(set(options.methods)) < len(options.methods):
        raise InputError(f"methods={options.methods} must name each method once, and one at the least")
    if not 0 < options.bulk <= 1:
        raise InputError(f"bulk={options.bulk:g} is no share: take more than 0 and at most 1")
    if options.bulk_label and options.bulk_images:
        raise InputError("bulk_label= and bulk_images= both say what is usual: give one of them")


def open_images(options: Options, encoder: Encoder) -> FolderSource | StoreSource:
    """The micrographs, or the patches of their store."""
    source = open_source(options.images, file_percentiles(options, encoder), options.labels_from, options.labels_csv)
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


def pooled(
    source: FolderSource | StoreSource, embeddings: Embeddings, options: Options
) -> tuple[dict[str, np.ndarray], Cells]:
    """The images' vectors `[N, C]` for each way of pooling, and their k strongest cells; one image's cells are in
    memory at a time."""
    first = embeddings[source.sha256s[0]]
    counts = [embeddings.grid(sha256).cells for sha256 in source.sha256s]
    fewest = int(np.argmin(counts))
    if counts[fewest] < options.k:
        raise InputError(
            f"k={options.k} is more than the {counts[fewest]} cells of {source.names[fewest]}: take a smaller k, an "
            "earlier layer or a larger size"
        )
    ways = ["mean"] + (["class"] if first.class_token is not None else [])
    ways += [f"{TOP}{k}" for k in sorted({options.k, *options.compared_ks}) if k <= counts[fewest]]
    vectors = {way: np.empty((len(source), first.cells.shape[-1]), np.float32) for way in ways}
    boxes = np.empty((len(source), options.k, 4), np.float32)
    norms = np.empty((len(source), options.k), np.float32)
    for position, sha256 in enumerate(tqdm(source.sha256s, desc="pooling", unit="image")):
        embedding = embeddings[sha256]
        for way in ways:
            vectors[way][position] = pool(embedding, way)
        cells = strongest(embedding.cells, options.k)
        boxes[position] = embedding.grid.boxes(cells)
        norms[position] = np.linalg.norm(embedding.cells.reshape(-1, embeddings.width)[cells], axis=1)
    return vectors, Cells(boxes, norms)


def cluster_by_all(vectors: np.ndarray, options: Options) -> dict[str, np.ndarray]:
    """Clusters `[N]` by each method; their numbers are those of the first method's that they are most like."""
    first, *others = (cluster(vectors, options.clusters, method, options.seed) for method in options.methods)
    return dict(zip(options.methods, (first, *(numbered_alike(numbers, first) for numbers in others)), strict=True))


def describe(vectors: np.ndarray, clusters: dict[str, np.ndarray], labels: np.ndarray, seed: int) -> dict:
    """Figures of one way of pooling; those that need labels only where there are two or more."""
    known = labels >= 0
    labelled = len(np.unique(labels[known])) > 1
    figures = {"rank_me": rank_me(torch.from_numpy(vectors))}
    if labelled:
        figures["separation"] = separation(vectors[known], labels[known])
    for method, numbers in clusters.items():
        figures[method] = {
            "silhouette": silhouette(vectors, numbers, seed),
            "separation": separation(vectors, numbers),
            **(agreement(numbers[known], labels[known]) if labelled else {}),
        }
    return figures


def central(vectors: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Distance `[N]` of each vector to the mean of its cluster: the smallest are typical of it."""
    means = {number: vectors[clusters == number].mean(axis=0) for number in np.unique(clusters)}
    return np.linalg.norm(vectors - np.stack([means[number] for number in clusters]), axis=1)


if __name__ == "__main__":
    run_command(main)
