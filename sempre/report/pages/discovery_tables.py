"""The tables of a discovery: its images, and their strongest cells, each with its place in the micrograph's file."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sempre.data.feeding.sources import Place
from sempre.files import whole_or_absent
from sempre.report.pages.discovery import Images

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
