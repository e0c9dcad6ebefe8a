"""The report of a discovery and its tables."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sempre.data.sources import FolderSource, PatchSource, Place, StoreSource
from sempre.files import whole_or_absent
from sempre.frozen.pooling import Cells
from sempre.report.figures import contact_sheet, draw_boxes
from sempre.report.html import figure_row, figure_rows, heading, paragraph, picture, subheading, table, write_page
from sempre.report.scatter import Colouring, scatter, thumbnail

TYPICAL = 6  # images shown of each cluster
NAMES = {"kmeans": "K-means", "agglomerative": "agglomerative"}


@dataclass(frozen=True)
class Images:
    """What was found of the N images of `source`, micrographs or patches.

    `points` `[N, 2]` on the map, `distances` `[N]` to the centroid of the bulk; by the name of each method `clusters`
    `[N]`, their numbers, and `central` `[N]`, the distances to the means of their clusters.
    """

    source: FolderSource | StoreSource
    points: np.ndarray
    clusters: dict[str, np.ndarray]
    distances: np.ndarray
    central: dict[str, np.ndarray]
    cells: Cells

    @cached_property
    def by_strangeness(self) -> np.ndarray:
        """Positions `[N]`, the strangest first."""
        return np.argsort(-self.distances, kind="stable")

    @property
    def patch_side(self) -> int | None:
        """Of patches their side in px; None for whole micrographs."""
        return self.source.side if isinstance(self.source, PatchSource) else None

    def label(self, position: int) -> str:
        number = self.source.labels[position]
        return self.source.label_names[number] if number >= 0 else ""


def write_discovery_report(
    path: Path, summary: dict, images: Images, strangest: int, drawn: int, thumbnails: int
) -> None:
    """Write the page.

    Args:
        summary: as evaluate/discover.py writes it.
        strangest: how many images the contact sheet shows.
        drawn: of so many of the strangest and of the most typical images the strongest cells are drawn.
        thumbnails: points of the map that show their image, the others show their name.
    """
    source, unit = images.source, "patches" if images.patch_side else "micrographs"
    texts = [describe(images, position) for position in range(len(source))]
    first, last = images.by_strangeness[:drawn], images.by_strangeness[drawn:][::-1][:drawn]
    k = images.cells.norms.shape[1]
    parts = [
        paragraph(
            f"{summary['images']} {unit} of {summary['source']}, embedded by {summary['backbone']} "
            f"({summary['read_out']}); each is the mean of its {k} strongest cells ({summary['pooled']})."
        ),
        heading(f"Map ({summary['map']})"),
        scatter("map", images.points, texts, colourings(images), read_thumbnails(source, thumbnails)),
        heading("Ways of pooling"),
        paragraph(
            "Separation is the variance between groups over that within them, of the labels and of the clusters. ARI "
            "and NMI compare clusters with labels. The silhouette is that of the clusters. RankMe is the effective "
            "number of dimensions."
        ),
        pooling_table(summary["pooling"], list(images.clusters)),
        heading("The strangest images"),
        paragraph(
            "Ranked by the cosine distance, which stands below each, to the centroid of what is usual: "
            f"{summary['bulk']}."
        ),
        sheet(images, images.by_strangeness[:strangest], lambda position: f"{images.distances[position]:.3f}"),
        heading("Where the strongest cells lie"),
        paragraph(
            f"Outlined are the {k} cells of largest L2 norm, whose mean stands for the image; in red the strongest. "
            "cells.csv has their places in px and in nm. Cells that lie on nothing say that the norm of this backbone "
            "is no sign of content: look at the mean of all cells, or another backbone, then."
        ),
        *([subheading("The strangest"), *cells_drawn(images, first)] if len(first) else []),
        *([subheading("The most typical"), *cells_drawn(images, last)] if len(last) else []),
        *(patches_drawn(images, strangest, drawn) if images.patch_side and drawn else []),
        heading("Clusters"),
        *cluster_sheets(images, summary["methods_ari"]),
    ]
    write_page(path, f"sempre: {Path(summary['source']).name}", parts)


def describe(images: Images, position: int) -> str:
    label = f"\nlabel {images.label(position)}" if images.label(position) else ""
    numbers = ", ".join(f"{name_of(method)} {numbers[position]}" for method, numbers in images.clusters.items())
    strangeness = f"distance to the bulk {images.distances[position]:.3f}"
    return f"{images.source.names[position]}{label}\ncluster: {numbers}\n{strangeness}"


def name_of(method: str) -> str:
    return NAMES.get(method, method)


def colourings(images: Images) -> list[Colouring]:
    """By the clusters of each method, a number having one colour in all, and by labels."""
    found = max(int(numbers.max()) for numbers in images.clusters.values()) + 1
    choices = []
    for method, numbers in images.clusters.items():
        sizes = np.bincount(numbers, minlength=found)
        choices.append(Colouring(name_of(method), numbers, [f"cluster {n} ({size})" for n, size in enumerate(sizes)]))
    if images.source.label_names:
        choices.append(Colouring("labels", images.source.labels, images.source.label_names))
    return choices


def read_thumbnails(source: FolderSource | StoreSource, count: int) -> list[bytes | None]:
    """Thumbnails of `count` micrographs, evenly chosen; None for the others."""
    chosen = np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int) if count else []
    pictures: list[bytes | None] = [None] * len(source)
    for position in tqdm(np.unique(chosen), desc="thumbnails", unit="image"):
        pictures[position] = thumbnail(source.read(position)[0])
    return pictures


def pooling_table(pooling: dict[str, dict], methods: list[str]) -> str:
    """A row a way of pooling; of each figure of clusters the methods side by side."""
    figures = {"ari": "ARI", "nmi": "NMI", "silhouette": "silhouette", "separation": "separation"}
    first = next(iter(pooling.values()))
    shown = [(figure, method) for figure in figures for method in methods if figure in first[method]]
    whole = {"separation": "separation of labels", "rank_me": "RankMe"}
    whole = {name: title for name, title in whole.items() if name in first}
    header = ["pooling", *whole.values(), *(f"{figures[figure]}, {name_of(method)}" for figure, method in shown)]
    rows = [
        (way, *(f"{row[name]:.3f}" for name in whole), *(f"{row[method][figure]:.3f}" for figure, method in shown))
        for way, row in pooling.items()
    ]
    return table(header, rows)


def cells_drawn(images: Images, positions: np.ndarray) -> list[str]:
    """Rows of images with their strongest cells; below each its distance to the bulk and its name."""
    drawn = [
        picture(
            draw_boxes(images.source.read(position)[0], images.cells.boxes[position]),
            f"{images.distances[position]:.3f} {images.source.names[position]}",
        )
        for position in positions
    ]
    return figure_rows(drawn, 3)


def patches_drawn(images: Images, strangest: int, drawn: int) -> list[str]:
    """Micrographs with those of the strangest patches that they hold, the micrograph of the strangest patch first."""
    source = images.source
    assert isinstance(source, PatchSource)
    patches_of: dict[int, list[int]] = {}
    for position in images.by_strangeness[:strangest]:
        patches_of.setdefault(int(source.micrograph_of[position]), []).append(position)
    pictures = []
    for positions in list(patches_of.values())[:drawn]:
        corners = np.array([(place.x, place.y) for place in map(source.place, positions)])
        boxes = np.concatenate([corners, corners + source.side], axis=1)
        caption = f"{len(positions)} of {source.micrograph_name(positions[0])}"
        pictures.append(picture(draw_boxes(source.read_micrograph(positions[0]), boxes, together=False), caption))
    return [
        subheading("Where the strangest patches lie"),
        paragraph(f"Of the {strangest} strangest patches those of each micrograph; in red its strangest."),
        *figure_rows(pictures, 3),
    ]


def cluster_sheets(images: Images, agreement: float | None) -> list[str]:
    """Of each cluster the images nearest to its mean, the methods side by side."""
    methods = list(images.clusters)
    parts = []
    if agreement is not None:
        parts.append(
            paragraph(
                f"{name_of(methods[0])} and {name_of(methods[1])} agree with an ARI of {agreement:.3f}. Clusters of "
                "one number are those that have most in common. Shown are the images nearest to a cluster's mean."
            )
        )
    for number in np.unique(np.concatenate(list(images.clusters.values()))):
        sheets = []
        for method, numbers in images.clusters.items():
            members = np.flatnonzero(numbers == number)
            typical = members[np.argsort(images.central[method][members], kind="stable")[:TYPICAL]]
            title = f"{name_of(method)}: {len(members)} images"
            shown = sheet(images, typical, images.label, title, 3 if len(methods) > 1 else 6)
            sheets.append(shown if len(members) else "<figure></figure>")
        parts += [subheading(f"Cluster {number}"), figure_row(sheets)]
    return parts


def sheet(images: Images, positions: np.ndarray, word: Callable[[int], str], title: str = "", columns: int = 6) -> str:
    """A contact sheet; below each image a word and its name."""
    pixels = [images.source.read(position)[0] for position in positions]
    captions = [f"{word(position)}\n{images.source.names[position]}".strip() for position in positions]
    return picture(contact_sheet(pixels, captions, columns), title)


BOX = ("x_px", "y_px", "width_px", "height_px", "x_nm", "y_nm", "width_nm", "height_nm")


def write_images(path: Path, images: Images) -> None:
    """One row an image, the strangest first; of patches with their number in the store and their place.

    `x_px` and `y_px` are a patch's upper left corner.
    """
    cut = images.patch_side is not None
    place_columns = ("patch", *BOX) if cut else ()
    methods = tuple(images.clusters)
    write_rows(
        path,
        ("image", *place_columns, "label", *methods, "distance", "map_x", "map_y"),
        (
            (
                images.source.micrograph_name(position),
                *((position, *patch_columns(images, position)) if cut else ()),
                images.label(position),
                *(images.clusters[method][position] for method in methods),
                f"{images.distances[position]:.6f}",
                *(f"{value:.5f}" for value in images.points[position]),
            )
            for position in images.by_strangeness
        ),
    )


def write_cells(path: Path, images: Images) -> None:
    """One row a cell: those of the strangest image first, of an image the strongest first.

    `x_px` and `y_px` are a cell's centre. Lengths are in px of the micrograph's file, whatever it was scaled by.
    """
    cut = images.patch_side is not None

    def rows() -> Iterable[Sequence]:
        for position in images.by_strangeness:
            place = images.source.place(position)
            boxes = place.in_file(images.cells.boxes[position].astype(np.float64))
            sizes = boxes[:, 2:] - boxes[:, :2]
            columns = np.concatenate([boxes[:, :2] + sizes / 2, sizes], axis=1)
            for rank, (values, norm) in enumerate(zip(columns, images.cells.norms[position], strict=True), 1):
                patch = (position,) if cut else ()
                yield place.file, *patch, rank, f"{norm:.4f}", *in_px_and_nm(values, place)

    write_rows(path, ("image", *(("patch",) if cut else ()), "rank", "norm", *BOX), rows())


def patch_columns(images: Images, position: int) -> list[str]:
    """A patch's corner and sides, for `BOX`."""
    place, side = images.source.place(position), images.patch_side
    x0, y0, x1, y1 = place.in_file(np.array([0, 0, side, side]))
    return in_px_and_nm([x0, y0, x1 - x0, y1 - y0], place)


def in_px_and_nm(lengths: Sequence[float], place: Place) -> list[str]:
    """Lengths in px of the file, then in nm, empty where the pixel size is not known."""
    size = place.pixel_size_nm
    return [f"{length:.2f}" for length in lengths] + [f"{length * size:.3f}" if size else "" for length in lengths]


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    with whole_or_absent(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
