"""What is in a pile of micrographs, without labels or masks: a map, clusters, and the strangest images.

    python evaluate/discover.py images=store.h5 backbone=runs/fcmae/backbone name=discovery
    python evaluate/discover.py images=FOLDER backbone=dinov2_vits14_pretrain.pth size=448

A frozen backbone gives each micrograph a vector: the mean of its strongest cells (those of largest L2 norm), which
find what a mask would. `runs/<name>/report.html` holds a map to explore, the clusters and the images farthest
from the bulk; `images.csv` and `summary.json` the same as numbers. Labels, where the store or its subfolders have
them, are only compared with.
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sempre.config import read_options, save_options
from sempre.data.sources import FolderSource, StoreSource, open_source
from sempre.embeddings.anomaly import bulk_distance
from sempre.embeddings.clusters import agreement, cluster, silhouette
from sempre.embeddings.embedding_file import Embeddings
from sempre.embeddings.encoder import open_encoder
from sempre.embeddings.extract import ExtractionOptions, extract
from sempre.embeddings.maps import plane
from sempre.embeddings.pooling import TOP, pool
from sempre.embeddings.quality import separation
from sempre.errors import InputError, run_command
from sempre.files import whole_or_absent, write_json
from sempre.images import check_percentiles
from sempre.pretraining.collapse import rank_me
from sempre.report.discovery import Images, write_discovery_report


@dataclass(kw_only=True)
class Options(ExtractionOptions):
    images: str = "???"  # store made by data/prepare.py, or a folder of micrographs (labels: its subfolders)
    backbone: str = "???"  # backbone/ folder, official .pth file, timm's name, random:<timm's name> or intensity
    weights: str = ""  # official DINO or DINOv2 file for the architecture that backbone names
    name: str = "discovery"  # the result goes to runs/<name>
    k: int = 32  # the strongest cells that are pooled
    compared_ks: list[int] = field(default_factory=lambda: [8, 16, 32, 64])  # others that the table compares
    clusters: int = 8  # how many
    method: str = "kmeans"  # kmeans or agglomerative
    map: str = "auto"  # umap, pca, or auto: umap where it is installed
    bulk: float = 0.9  # share of the images that count as usual
    strangest: int = 24  # images on the contact sheet
    thumbnails: int = 10000  # points of the map that show their image, evenly chosen
    seed: int = 0  # of clusters and map


def main() -> None:
    options = read_options(Options)
    folder = Path("runs") / options.name
    source = open_source(options.images, check_percentiles(options.percentiles))
    encoder = open_encoder(options.backbone, options.weights, options.layer, options.seed)
    with extract(source, encoder, options) as embeddings:
        vectors = pooled(source, embeddings, options)
    chosen = f"{TOP}{options.k}"

    # Clusters, and what labels there are, for each way of pooling; map and strangeness for the chosen one.
    clusters = {
        pooling: cluster(values, options.clusters, options.method, options.seed) for pooling, values in vectors.items()
    }
    summary = {
        "images": len(source),
        "source": options.images,
        "backbone": encoder.name,
        "pooled": chosen,
        "pooling": {
            pooling: describe(values, clusters[pooling], source.labels, options.seed)
            for pooling, values in vectors.items()
        },
    }
    points, summary["map"] = plane(vectors[chosen], options.map, options.seed)
    distances = bulk_distance(vectors[chosen], options.bulk)
    folder.mkdir(parents=True, exist_ok=True)
    save_options(options, folder / "config.yaml")
    write_json(folder / "summary.json", summary)
    images = Images(source, points, clusters[chosen], distances, central(vectors[chosen], clusters[chosen]))
    write_csv(folder / "images.csv", images)
    write_discovery_report(folder / "report.html", summary, images, options.strangest, options.thumbnails)
    print(f"{len(source)} micrographs in {len(np.unique(images.clusters))} clusters: {folder / 'report.html'}")


def pooled(source: FolderSource | StoreSource, embeddings: Embeddings, options: Options) -> dict[str, np.ndarray]:
    """The micrographs' vectors `[N, C]` for each way of pooling; one micrograph's cells are in memory at a time."""
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
    for position, sha256 in enumerate(tqdm(source.sha256s, desc="pooling", unit="image")):
        embedding = embeddings[sha256]
        for way in ways:
            vectors[way][position] = pool(embedding, way)
    return vectors


def describe(vectors: np.ndarray, clusters: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, float]:
    """Figures of one way of pooling; those that need labels only where there are two or more."""
    known = labels >= 0
    labelled = len(np.unique(labels[known])) > 1
    figures = {
        "separation": separation(vectors[known], labels[known]) if labelled else separation(vectors, clusters),
        "silhouette": silhouette(vectors, clusters, seed),
        "rank_me": rank_me(torch.from_numpy(vectors)),
    }
    return figures | (agreement(clusters[known], labels[known]) if labelled else {})


def central(vectors: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Distance `[N]` of each vector to the mean of its cluster: the smallest are typical of it."""
    means = {number: vectors[clusters == number].mean(axis=0) for number in np.unique(clusters)}
    return np.linalg.norm(vectors - np.stack([means[number] for number in clusters]), axis=1)


def write_csv(path: Path, images: Images) -> None:
    """One row a micrograph, the strangest first."""
    with whole_or_absent(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "cluster", "distance", "x", "y"))
        for position in images.by_strangeness:
            x, y = images.points[position]
            label, number = images.label(position), images.clusters[position]
            writer.writerow(
                (
                    images.source.names[position],
                    label,
                    number,
                    f"{images.distances[position]:.6f}",
                    f"{x:.5f}",
                    f"{y:.5f}",
                )
            )


if __name__ == "__main__":
    run_command(main)
