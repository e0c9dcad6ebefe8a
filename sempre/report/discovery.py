"""The report of a discovery: a map to explore, ways of pooling, the strangest images, each cluster's typical ones."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sempre.data.sources import FolderSource, StoreSource
from sempre.report.contact_sheet import contact_sheet
from sempre.report.html import heading, paragraph, picture, table, write_page
from sempre.report.scatter import Colouring, scatter, thumbnail

TYPICAL = 6  # images shown of each cluster


@dataclass(frozen=True)
class Images:
    """What was found of the N micrographs of `source`.

    `points` `[N, 2]` on the map, `clusters` `[N]` their numbers, `distances` `[N]` to the centroid of the bulk,
    `central` `[N]` the distances to the means of their clusters.
    """

    source: FolderSource | StoreSource
    points: np.ndarray
    clusters: np.ndarray
    distances: np.ndarray
    central: np.ndarray

    @cached_property
    def by_strangeness(self) -> np.ndarray:
        """Positions `[N]`, the strangest first."""
        return np.argsort(-self.distances, kind="stable")

    def label(self, position: int) -> str:
        number = self.source.labels[position]
        return self.source.label_names[number] if number >= 0 else ""


def write_discovery_report(path: Path, summary: dict, images: Images, strangest: int, thumbnails: int) -> None:
    """Write the page.

    Args:
        summary: as evaluate/discover.py writes it.
        strangest: how many images the contact sheet shows.
        thumbnails: points of the map that show their image, the others show their name.
    """
    source = images.source
    texts = [describe(images, position) for position in range(len(source))]
    numbers, in_cluster = np.unique(images.clusters, return_inverse=True)
    names = [f"cluster {number} ({np.count_nonzero(images.clusters == number)})" for number in numbers]
    colourings = [Colouring("clusters", in_cluster, names)]
    if source.label_names:
        colourings.append(Colouring("labels", source.labels, source.label_names))
    parts = [
        paragraph(
            f"{summary['images']} micrographs of {summary['source']}, embedded by {summary['backbone']}; each is the "
            f"mean of its strongest cells ({summary['pooled']})."
        ),
        heading(f"Map ({summary['map']})"),
        scatter("map", images.points, texts, colourings, read_thumbnails(source, thumbnails)),
        heading("Ways of pooling"),
        paragraph(
            "Separation is the variance between groups over that within them, of labels where there are some, of "
            "clusters elsewhere. ARI and NMI compare clusters with labels. The silhouette is that of the clusters. "
            "RankMe is the effective number of dimensions."
        ),
        pooling_table(summary["pooling"]),
        heading("The strangest images"),
        paragraph("Ranked by the cosine distance to the centroid of the usual ones, which stands below each."),
        sheet(images, images.by_strangeness[:strangest], lambda position: f"{images.distances[position]:.3f}"),
        heading("Clusters"),
    ]
    for number, name in zip(numbers, names, strict=True):
        members = np.flatnonzero(images.clusters == number)
        typical = members[np.argsort(images.central[members], kind="stable")[:TYPICAL]]
        parts += [paragraph(f"{name}: the images nearest to its mean"), sheet(images, typical, images.label)]
    write_page(path, f"sempre: {Path(summary['source']).name}", parts)


def describe(images: Images, position: int) -> str:
    label = f"\nlabel {images.label(position)}" if images.label(position) else ""
    strangeness = f"distance to the bulk {images.distances[position]:.3f}"
    return f"{images.source.names[position]}{label}\ncluster {images.clusters[position]}\n{strangeness}"


def read_thumbnails(source: FolderSource | StoreSource, count: int) -> list[bytes | None]:
    """Thumbnails of `count` micrographs, evenly chosen; None for the others."""
    chosen = np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int) if count else []
    pictures: list[bytes | None] = [None] * len(source)
    for position in tqdm(np.unique(chosen), desc="thumbnails", unit="image"):
        pictures[position] = thumbnail(source.read(position)[0])
    return pictures


def pooling_table(pooling: dict[str, dict[str, float]]) -> str:
    names = {"separation": "separation", "ari": "ARI", "nmi": "NMI", "silhouette": "silhouette", "rank_me": "RankMe"}
    shown = [name for name in names if name in next(iter(pooling.values()))]
    rows = [(way, *(f"{figures[name]:.3f}" for name in shown)) for way, figures in pooling.items()]
    return table(("pooling", *(names[name] for name in shown)), rows)


def sheet(images: Images, positions: np.ndarray, word: Callable[[int], str]) -> str:
    """A contact sheet; below each image a word and its name."""
    pixels = [images.source.read(position)[0] for position in positions]
    captions = [f"{word(position)}\n{images.source.names[position]}".strip() for position in positions]
    return picture(contact_sheet(pixels, captions))
